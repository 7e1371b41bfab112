"""``python -m tests.mutation retraining fleet.rows``: change these rooms or modules, and list what no test notices.

Prints how many changes of each module were noticed by a test, by the type checker, or are explained; then each that is
neither. Fails if there is one in a module that ``explained.toml`` calls clean.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

sys.path.append(f"{sys.prefix}-mutants")

from tests.mutation.changes import Change, changes, modules, text_of
from tests.mutation.runner import Runner
from tests.support import ROOT

ROOMS = ("retraining", "server.models", "fleet", "protocol")
# Tests of these are quick, and meet what they are about.
TESTS = {
    "retraining": ["tests/retraining"],
    "server.models": ["tests/server/models"],
    "fleet": [f"tests/fleet/test_{name}.py" for name in ("engine", "engine_rounds", "rows", "update")],
    "protocol": ["tests/protocol", "tests/retraining", "tests/server/experiments/test_ilearner.py"],
}
EXPLAINED = Path(__file__).with_name("explained.toml")
CACHE = ROOT / ".mutants.json"
COLUMNS = ("killed", "types", "rule", "listed", "survived", "untested")


class Verdicts:
    """How changes ended, kept so that a second run tries only those that survived or whose module changed."""

    def __init__(self) -> None:
        self._kept: dict[str, str] = json.loads(CACHE.read_text()) if CACHE.exists() else {}
        self.all: list[tuple[Change, str]] = []

    def kept(self, change: Change) -> str | None:
        """What killed it before, if its module says the same."""
        return self._kept.get(change.key)

    def add(self, change: Change, verdict: str) -> None:
        """Note a verdict."""
        self.all.append((change, verdict))
        if verdict in ("killed", "types", "same"):
            self._kept[change.key] = verdict

    def save(self) -> None:
        """Keep them."""
        CACHE.write_text(json.dumps(self._kept))


def main() -> int:
    """Run; 1 if a change that nothing explains was not noticed in a module that is finished."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("rooms", nargs="*", default=ROOMS)
    parser.add_argument("--children", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of tests that a change meets at most")
    parser.add_argument("--no-types", action="store_true", help="leave the type checker out: it takes a minute")
    options = parser.parse_args()
    os.nice(19)
    explained = tomllib.loads(EXPLAINED.read_text())
    verdicts = Verdicts()
    for area, tests in TESTS.items():
        paths = [path for room in options.rooms if room.startswith(area) for path in modules(room)]
        left = run(paths, tests, Runner(paths, options.children, options.seconds), explained, verdicts)
        typed = set() if options.no_types else refused([change for change, _ in left])
        for change, verdict in left:
            verdicts.add(change, "types" if change in typed else verdict)
        verdicts.save()
    return report(verdicts, explained)


def run(
    paths: list[Path], tests: list[str], runner: Runner, explained: dict[str, Any], verdicts: Verdicts
) -> list[tuple[Change, str]]:
    """Try every change of some files; those that no test notices are returned."""
    waiting: list[Change] = []
    left: list[tuple[Change, str]] = []
    for change in (change for path in paths for change in changes(path)):
        if verdict := known(change, explained) or verdicts.kept(change):
            verdicts.add(change, verdict)
        else:
            waiting.append(change)

    def work(runner: Runner) -> None:
        for name in runner.unfit:
            print(f"fails without any change: {name}", file=sys.stderr)
        for count, (change, verdict) in enumerate(runner.run(waiting), 1):
            if verdict in ("survived", "untested"):
                left.append((change, verdict))
                print(f"{verdict} {change.module}:{change.lines[0]} {change.shown}", file=sys.stderr)
            else:
                verdicts.add(change, verdict)
            if count % 100 == 0:
                print(f"{count} of {len(waiting)}, {len(left)} left", file=sys.stderr)
                verdicts.save()

    runner.work = work
    # What a failed test says is not read; tests that look for the text of the code cannot tell anything of others.
    quiet = ["-q", "-s", "--assert=plain", "--tb=native", "--no-header", "-p", "no:xdist", "-p", "no:cacheprovider"]
    if waiting:
        pytest.main([*quiet, "-m", "not slow", "-k", "not taken_out", "-o", "timeout=0", *tests], plugins=[runner])
    return left


def known(change: Change, explained: dict[str, Any]) -> str | None:
    """Whether a rule, or the list, gives a reason for a change; the list also for all that begin alike (``*``)."""
    listed = explained.get(change.module, {})
    if change.shown in listed or any(key[-1] == "*" and change.shown.startswith(key[:-1]) for key in listed):
        return "listed"
    return "rule" if change.rule else None


def refused(candidates: list[Change]) -> set[Change]:
    """Those that the type checker refuses: behind a function stand copies of it, one for each change."""
    if not candidates:
        return set()
    by_path: dict[Path, list[Change]] = defaultdict(list)
    for change in candidates:
        by_path[change.path].append(change)
    found: set[Change] = set()
    folder = ROOT / ".mypy_cache" / "mutation"
    folder.mkdir(parents=True, exist_ok=True)
    arguments, owners = [], {}
    for path, mine in by_path.items():
        shadow = folder / f"{mine[0].module}.py"
        text, owners[str(path.relative_to(ROOT))] = _with_copies(path, mine)
        shadow.write_text(text)
        arguments += ["--shadow-file", str(path.relative_to(ROOT)), str(shadow)]
    command = [sys.executable, "-m", "mypy", "--cache-dir", ".mypy_cache/changed", "--no-error-summary", *arguments]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    plain: dict[tuple[str, str], set[str]] = defaultdict(set)
    errors = []
    for line in output.splitlines():
        name, _, rest = line.partition(":")
        number, _, message = rest.partition(":")
        owner = owners.get(name, {}).get(int(number)) if number.isdigit() and " error:" in message else None
        if isinstance(owner, str):
            plain[name, owner].add(message)
        elif owner is not None:
            errors.append((name, owner, message))
    for name, owner, message in errors:
        if message not in plain[name, owner.function]:
            found.add(owner)
    return found


def _with_copies(path: Path, mine: list[Change]) -> tuple[str, dict[int, Change | str]]:
    """A module in which a copy of each changed function follows it, and what each line belongs to."""
    lines = text_of(path).splitlines()
    spans: dict[tuple[str, int], tuple[int, int, int]] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                spans[prefix + node.name, first] = first, node.lineno, node.end_lineno or node.lineno
            elif isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(text_of(path)).body, "")
    inserts: dict[int, list[tuple[Change | str, list[str]]]] = defaultdict(list)
    for (name, first), (_, definition, last) in spans.items():
        own = [one for one in mine if one.function == name and first <= one.lines[0] <= last]
        if not own:
            continue
        plain = name.rpartition(".")[2]
        for index, change in enumerate([None, *own]):
            changed = (change.source() if change else text_of(path)).splitlines()
            end = last + len(changed) - len(lines)
            copy = changed[first - 1 : end]
            where = definition - first
            copy[where] = copy[where].replace(f"def {plain}", f"def {plain.rstrip('_')}_{index}x", 1)
            inserts[last].append((change or name, copy))
    result: list[str] = []
    owners: dict[int, Change | str] = {}
    for number, line in enumerate(lines, 1):
        result.append(line)
        for owner, copy in inserts[number]:
            for one in copy:
                result.append(one)
                owners[len(result)] = owner
    return "\n".join(result) + "\n", owners


def report(verdicts: Verdicts, explained: dict[str, Any]) -> int:
    """Print the table and what is left; 1 if something is left where nothing should be."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    wrong = 0
    for change, verdict in verdicts.all:
        table[change.module][verdict] += 1
        if verdict in ("survived", "untested"):
            wrong += change.module in explained["clean"]
            print(f"{verdict} {change.module}:{change.lines[0]} {change.shown}")
    print("\n" + "module".ljust(32) + "".join(name.rjust(10) for name in COLUMNS))
    for name, counts in [*table.items(), ("all", sum(table.values(), Counter()))]:
        mark = " (clean)" if name in explained["clean"] else ""
        print((name + mark).ljust(32) + "".join(str(counts[column]).rjust(10) for column in COLUMNS))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
