"""Runs the tests that meet a change, in a forked process in which the function's code is replaced.

pytest collects once. Each process that is forked from it changes one function and runs the tests that run the changed
lines, the quickest first, until one fails. Nothing is copied, imported or collected again.
"""

from __future__ import annotations
import __future__

import ast
import gc
import inspect
import json
import os
import resource
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import coverage
import pytest

from tests.mutation.changes import Change

KILLED, SURVIVED, SAME, UNKNOWN = 1, 0, 10, 11


class Runner:
    """A plugin of pytest that runs changes instead of tests.

    :param paths: files that are changed.
    :param verdicts: is called with what says how a change ended; it gives the changes.
    :param children: processes at once.
    :param seconds: of tests that a change meets at most; the slowest are left out.
    """

    def __init__(self, paths: list[Path], children: int, seconds: float) -> None:
        self._paths, self._children, self._seconds = paths, children, seconds
        self.work: Callable[[Runner], None] | None = None
        self._items: dict[str, pytest.Item] = {}
        self._session: pytest.Session
        self._times: dict[str, float] = {}
        self._tests: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._killers: dict[str, list[str]] = defaultdict(list)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Do the work instead of running the tests."""
        self._session, self._items = session, {item.nodeid: item for item in session.items}
        self._warm_up()
        self._functions = _functions({str(path) for path in self._paths})
        self._look()
        # Collected garbage would touch, and so copy, all that a forked process shares with this one.
        gc.freeze()
        if self.work:
            self.work(self)
        return True

    def _warm_up(self) -> None:
        """Make what the session's tests share, a trained model for example, once and not in each process."""
        made: set[str] = set()
        for item in self._items.values():
            definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009
            shared = {name for name, all_ in definitions.items() if all_[-1].scope == "session" and all_[-1].baseid}
            if shared - made:
                made |= shared
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=self._session)

    def _look(self) -> None:
        """Run each test once, and note how long it takes and which lines it runs."""
        with tempfile.TemporaryDirectory() as folder:
            notes = Path(folder, "notes.json")
            pid = _forked(lambda: self._measure(notes))
            os.waitpid(pid, 0)
            times, lines = json.loads(notes.read_text())
        self._times = times
        for path, by_line in lines.items():
            for line, names in by_line.items():
                self._tests[path, int(line)] = {name for name in names if name in times}

    def _measure(self, notes: Path) -> int:
        times: dict[str, float] = {}
        measured = coverage.Coverage(
            data_file=None, include=[str(path) for path in self._paths], config_file=False, concurrency=["thread"]
        )
        measured.start()
        for item, following in _pairs(list(self._items.values())):
            measured.switch_context(item.nodeid)
            before, failed = time.process_time(), self._session.testsfailed
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._session.testsfailed == failed:
                times[item.nodeid] = time.process_time() - before
        measured.stop()
        data = measured.get_data()
        lines = {path: data.contexts_by_lineno(path) for path in data.measured_files()}
        notes.write_text(json.dumps([times, lines]))
        return 0

    @property
    def unfit(self) -> list[str]:
        """Tests that fail without any change here, so that they show nothing."""
        return sorted(set(self._items) - set(self._times))

    def _meeting(self, change: Change) -> list[str]:
        first, last = change.lines
        names = {name for line in range(first, last + 1) for name in self._tests.get((str(change.path), line), ())}
        killers = self._killers[f"{change.path}{change.function}"]
        last_killers = [name for name in killers[::-1] if name in names][:5]
        names -= set(last_killers)
        chosen, spent = list(dict.fromkeys(last_killers)), 0.0
        for name in sorted(names, key=self._times.__getitem__):
            spent += self._times[name]
            if spent > self._seconds and len(chosen) > 3:
                break
            chosen.append(name)
        return chosen

    def run(self, changes: Iterable[Change]) -> Iterator[tuple[Change, str]]:
        """How each change ended: killed, survived, untested (no test runs the line), same (as bytecode)."""
        running: dict[int, tuple[Change, Path]] = {}
        waiting = iter(changes)
        more = True
        while more or running:
            while more and len(running) < self._children:
                change = next(waiting, None)
                if change is None:
                    more = False
                    break
                tests = self._meeting(change)
                if not tests:
                    yield change, "untested"
                    continue
                limit = sum(self._times[name] for name in tests)
                folder = Path(tempfile.mkdtemp(prefix="mutation-"))
                pid = _forked(partial(self._try, change, tests, limit, folder))
                running[pid] = change, folder
            if running:
                yield self._ended(running)

    def _ended(self, running: dict[int, tuple[Change, Path]]) -> tuple[Change, str]:
        pid, status = os.waitpid(-1, 0)
        while pid not in running:
            pid, status = os.waitpid(-1, 0)
        change, folder = running.pop(pid)
        killer = folder / "killer"
        if killer.exists():
            self._killers[f"{change.path}{change.function}"].append(killer.read_text())
        shutil.rmtree(folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        return change, {SURVIVED: "survived", SAME: "same", UNKNOWN: "untested"}.get(code, "killed")

    def _try(self, change: Change, tests: list[str], limit: float, folder: Path) -> int:
        resource.setrlimit(resource.RLIMIT_CPU, (int(5 * limit) + 5, int(5 * limit) + 6))
        # Ends a process that waits for ever; generous, as other work may run beside this.
        signal.setitimer(signal.ITIMER_REAL, 20 * limit + 60)
        # A change of a bound may ask for all memory.
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        replaced = self._replace(change)
        if replaced is not None:
            return replaced
        self._session.config._tmp_path_factory._basetemp = folder  # type: ignore[attr-defined]
        for item, following in _pairs([self._items[name] for name in tests]):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._session.testsfailed:
                (folder / "killer").write_text(item.nodeid)
                return KILLED
        return SURVIVED

    def _replace(self, change: Change) -> int | None:
        """Give each function object that has the code another one; an exit code if that cannot be."""
        functions = self._functions.get((str(change.path), change.function), [])
        tree = ast.parse(change.alone())
        compiled = compile(tree, str(change.path), "exec", __future__.annotations.compiler_flag, dont_inherit=True)
        code = next(one for one in _codes(compiled) if one.co_qualname == change.function)
        node = next(one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
        # Getter and setter have one name; a code begins at the first decorator.
        begins = max(
            (one.__code__.co_firstlineno for one in functions if one.__code__.co_firstlineno <= node.lineno), default=0
        )
        done = same = 0
        for function in functions:
            if function.__code__.co_firstlineno != begins:
                continue
            if code.co_freevars != function.__code__.co_freevars:
                return KILLED
            defaults = _defaults(node, function)
            same += _alike(code, function.__code__) and not defaults
            function.__code__ = code
            done += 1
        for inner in _codes(code):
            # Functions that it has made already, when its module was imported, say.
            for function in self._functions.get((str(change.path), inner.co_qualname), []):
                if function.__code__.co_firstlineno == inner.co_firstlineno and inner is not code:
                    if inner.co_freevars != function.__code__.co_freevars:
                        return KILLED
                    function.__code__ = inner
        return UNKNOWN if not done else SAME if same == done else None


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef, function: FunctionType) -> bool:
    """Give a function the defaults that its changed source says; whether there are any others than before."""
    before = function.__defaults__, function.__kwdefaults__
    positional = list(function.__defaults__ or ())
    for index, default in enumerate(node.args.defaults[-len(positional) :] if positional else ()):
        positional[index] = _default(default, function, positional[index])
    if positional:
        function.__defaults__ = tuple(positional)
    named = dict(function.__kwdefaults__ or {})
    for argument, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        if value is not None and argument.arg in named:
            named[argument.arg] = _default(value, function, named[argument.arg])
    if named:
        function.__kwdefaults__ = named
    return before != (function.__defaults__, function.__kwdefaults__)


def _default(node: ast.expr, function: FunctionType, before: Any) -> Any:
    """The value of a default, if it is made of constants, or a function; else the one that is there."""
    if any(isinstance(one, ast.Call | ast.Name) for one in ast.walk(node)) and not isinstance(node, ast.Lambda):
        return before
    value = eval(compile(ast.Expression(node), "default", "eval"), function.__globals__)  # noqa: S307 - our own source
    alike = isinstance(node, ast.Lambda) and _alike(value.__code__, before.__code__)
    return before if alike else value


def _alike(one: CodeType, other: CodeType) -> bool:
    """Whether two codes do the same; lines and columns aside."""
    if one.co_code != other.co_code or one.co_names != other.co_names or len(one.co_consts) != len(other.co_consts):
        return False
    return one.co_varnames == other.co_varnames and all(
        _alike(mine, yours)
        if isinstance(mine, CodeType) and isinstance(yours, CodeType)
        else type(mine) is type(yours) and repr(mine) == repr(yours)
        for mine, yours in zip(one.co_consts, other.co_consts, strict=True)
    )


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)


def _functions(paths: set[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """Every function object of some files by its qualified name, however it is wrapped."""
    functions: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    for one in gc.get_objects():
        if isinstance(one, FunctionType) and one.__code__.co_filename in paths:
            functions[one.__code__.co_filename, one.__code__.co_qualname].append(one)
    return functions


def _pairs(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item]]:
    # The last one is followed by itself: what the session shares need not be taken down before a process ends.
    return zip(items, [*items[1:], items[-1]], strict=True) if items else iter(())


def _forked(work: Callable[[], int]) -> int:
    """Do something in a process of its own, silently; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = KILLED
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        code = work()
    finally:
        os._exit(code)
