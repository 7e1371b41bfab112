"""Writes the parts of the documents that come from the code: ``make docs``. A test checks that they are up to date.

A part begins with a comment that says where it comes from:

``<!-- dag: dags/x.py -->``
    the whole DAG file but its docstring and imports
``<!-- code: dags/x.py name -->``
    what stands in the file between ``# [START name]`` and ``# [END name]``; without these, what defines ``name``: a
    function with its decorators, or an assignment
``<!-- errors -->``, ``<!-- hints -->``, ``<!-- codes -->``, ``<!-- not offered -->``
    tables of the errors, of what to do about each code, of all codes, and of calls that the server does not offer
``<!-- provider rooms -->``, ``<!-- server rooms -->``
    the rooms of the package, floor by floor, as the imports have them
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from airflow_provider_azureml_classic import exceptions
from airflow_provider_azureml_classic.exceptions import CODES, HINTS, OURS, PUBLISHED, AzureMLClassicError, error_class
from airflow_provider_azureml_classic.protocol.not_offered import NOT_OFFERED

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "airflow_provider_azureml_classic"
_STATUSES = (400, 401, 403, 404, 405, 408, 409, 412, 413, 429, 500, 503, 504)
#: Lines for this file only.
_MARKER = re.compile(r"^ *# \[(START|END) \w+\]\n", re.M)


def documents() -> list[Path]:
    """All Markdown files that readers are sent to."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def rendered(text: str) -> str:
    """``text`` with every part that comes from the code made anew.

    :param text: a Markdown document.
    """
    text = re.sub(r"(<!-- dag: (\S+) -->\n```python\n).*?(```)", _dag, text, flags=re.S)
    text = re.sub(r"(<!-- code: (\S+) (\w+) -->\n```python\n).*?(```)", _code, text, flags=re.S)
    for name, rows in _TABLES.items():
        pattern = rf"(<!-- {name} -->\n\|.*?\n\|.*?\n)(?:\|.*\n)*"
        text = re.sub(pattern, lambda found, rows=rows: found[1] + rows(), text)
    return text


def _dag(found: re.Match[str]) -> str:
    source = _MARKER.sub("", (ROOT / found[2]).read_text())
    body = source[source.index("\nSCORING") + 1 :]
    return f"{found[1]}{body}{found[3]}"


def _code(found: re.Match[str]) -> str:
    source = (ROOT / found[2]).read_text()
    marked = re.search(rf"^ *# \[START {found[3]}\]\n(.*?)^ *# \[END {found[3]}\]\n", source, re.M | re.S)
    lines = marked[1] if marked else _definition(source, found[3])
    return f"{found[1]}{_MARKER.sub('', textwrap.dedent(lines))}{found[4]}"


def _definition(source: str, name: str) -> str:
    """The lines that define a name, with the decorators and the comment above them.

    :param source: of a DAG file.
    :param name: of a function or variable.
    :raises LookupError: nothing defines it.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        targets = node.targets if isinstance(node, ast.Assign) else [node]
        if not any(name in (getattr(one, "id", None), getattr(one, "name", None)) for one in targets):
            continue
        if isinstance(node, ast.Assign | ast.FunctionDef):
            first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            return "".join(lines[first : node.end_lineno])
    raise LookupError(f"nothing defines {name!r}")


# -- tables ------------------------------------------------------------------------------------------------------------


def error_classes() -> Iterator[type[AzureMLClassicError]]:
    """Every class of error."""
    for kind in (value for value in vars(exceptions).values() if isinstance(value, type)):
        if issubclass(kind, AzureMLClassicError) and kind is not AzureMLClassicError:
            yield kind


def errors() -> str:
    """A table row for each class of error."""
    lines = []
    for kind in error_classes():
        statuses = ", ".join(str(status) for status in _STATUSES if error_class(status) is kind) or "-"
        statuses += " or no answer" if kind is exceptions.ServiceUnavailable else ""
        action = "may be retried (`AirflowException`)" if kind.retryable else "fails at once (`AirflowFailException`)"
        summary = (kind.__doc__ or "").partition("\n")[0].partition(":")[0].partition(";")[0].rstrip(".")
        lines.append(f"| `{kind.__name__}`: {summary[0].lower()}{summary[1:]} | {statuses} | {action} |\n")
    return "".join(lines)


def hints() -> str:
    """A table row for each code that has a hint."""
    return "".join(f"| `{code}` | {CODES[code][1]} | {HINTS[code]} |\n" for code in sorted(HINTS))


def codes() -> str:
    """A table row for each HTTP status: its codes, those of the published table and those of the server in here."""
    lines = []
    for status in sorted({status for _, status in CODES.values()}):
        kind = error_class(status)
        action = "retried" if kind.retryable else "fails at once"
        lines.append(
            f"| {status} | `{kind.__name__}` | {action} | {_listed(PUBLISHED, status)} | {_listed(OURS, status)} |\n"
        )
    return "".join(lines)


def _listed(table: dict[str, tuple[int, str]], status: int) -> str:
    names = [name for code, (its, details) in table.items() if its == status for name in (details.split() or [code])]
    return ", ".join(f"`{name}`" if name in raised() else f"`{name}` ¹" for name in names) or "-"


@cache
def raised() -> frozenset[str]:
    """The codes that this package gives: texts of its sources, but for the table of all codes."""
    trees = [_parsed(path) for path in (ROOT / PACKAGE).rglob("*.py") if path.name != "exceptions.py"]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return frozenset(node.value for node in nodes if isinstance(node.value, str))


def _parsed(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text())
    except SystemError:  # Python 3.11 counts its depth wrongly where two threads parse at once
        return ast.parse(path.read_text())


def not_offered() -> str:
    """A table row for each group of calls that the server does not offer."""
    return "".join(f"| {group.what} | {group.instead} |\n" for group in NOT_OFFERED)


def rooms(side: str) -> str:
    """The rooms of one half of the package, the highest floor first, from its imports.

    :param side: ``provider`` or ``server``.
    """
    files = {_room(path): [] for path in _sources()}
    for path in _sources():
        files[_room(path)].append(path)
    # What stands in the package itself, its version, is no room.
    below = {
        room: {other for path in paths for other in _imported(path) if other in files} - {room}
        for room, paths in files.items()
    }
    heights: dict[str, int] = {}

    def height(room: str) -> int:
        if room not in heights:
            heights[room] = 1 + max(map(height, below[room]), default=0)
        return heights[room]

    shown = [room for room in below if room.startswith("server.") == (side == "server")]
    return "".join(
        f"| {height(room)} | `{room.removeprefix('server.')}` | {_about(room)} | "
        f"{', '.join(sorted(name.removeprefix('server.') for name in below[room]))} |\n"
        for room in sorted(shown, key=lambda room: (-height(room), room))
    )


def _sources() -> list[Path]:
    return [path for path in sorted((ROOT / PACKAGE).rglob("*.py")) if _room(path) not in ("", "server")]


def _room(path: Path) -> str:
    parts = path.relative_to(ROOT / PACKAGE).with_suffix("").parts
    return ".".join(parts[: 2 if parts[0] == "server" else 1]).removesuffix("__init__").rstrip(".")


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            for alias in node.names:
                parts = [*str(node.module).split(".")[1:], alias.name]
                yield ".".join(parts[: 2 if parts[0] == "server" else 1])


def _about(room: str) -> str:
    folder = ROOT / PACKAGE / room.replace(".", "/")
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    first = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    return " ".join(re.split(r"(?<=[.:]) ", " ".join(first.split()))[0].rstrip(".:").split())


_TABLES: dict[str, Callable[[], str]] = {
    "provider rooms": lambda: rooms("provider"),
    "server rooms": lambda: rooms("server"),
    "errors": errors,
    "hints": hints,
    "codes": codes,
    "not offered": not_offered,
}


if __name__ == "__main__":
    for path in documents():
        before = path.read_text()
        after = rendered(before)
        if after != before:
            path.write_text(after)
            print(f"{path.relative_to(ROOT)} renewed")
    sys.exit(0)
