"""Changes of a module: each of mutmut's operators at each place inside a function, and the rules that explain some."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from tests.support import ROOT

PACKAGE = "airflow_provider_azureml_classic"

_PROSE = re.compile(r"[A-Za-z,.:;)'] +[A-Za-z(']| (is|are|of|not|has|must|and|in|at|on|with|to|it|was) |^ \\w+|\\w: $")
_LOGGED = ("debug", "info", "warning", "error", "exception", "log", "warn")
_CODECS = {"utf-8", "ascii", "latin-1", "utf-8-sig"}


@dataclass(frozen=True)
class Change:
    """One change of one function.

    :param path: file of the module.
    :param function: qualified name of the function at the top of the module, or of the method.
    :param span: offsets in the file between which the function stands.
    :param lines: first and last line of the statement, or of the head of the block, that is changed.
    :param begin: offset in the file where the changed text begins.
    :param end: offset where it ends.
    :param text: what stands there instead.
    :param rule: why no test is asked for, if a rule says so.
    """

    path: Path
    function: str
    span: tuple[int, int]
    lines: tuple[int, int]
    begin: int
    end: int
    text: str
    rule: str | None

    @property
    def module(self) -> str:
        """Name of the module below the package, as ``fleet.rows``."""
        return ".".join(self.path.relative_to(ROOT / PACKAGE).with_suffix("").parts)

    @property
    def key(self) -> str:
        """The change and all of its function; the same wherever the function stands."""
        text = text_of(self.path)
        whole = text[self.span[0] : self.begin] + "\0" + self.text + "\0" + text[self.end : self.span[1]]
        return hashlib.sha256(f"{self.module} {self.function} {whole}".encode()).hexdigest()[:20]

    def source(self) -> str:
        """The module with the change."""
        text = text_of(self.path)
        return text[: self.begin] + self.text + text[self.end :]

    def alone(self) -> str:
        """The function with the change, at the lines where it stands, in the heads of its classes."""
        text = text_of(self.path)
        begin = text.rfind("\n", 0, self.span[0]) + 1
        function = text[begin : self.begin] + self.text + text[self.end : self.span[1]]
        heads = [f"{' ' * depth}class {name}:\n" for depth, name in enumerate(self.function.split(".")[:-1])]
        return "\n" * (text.count("\n", 0, begin) - len(heads)) + "".join(heads) + function

    @property
    def shown(self) -> str:
        """Function, the lines before, and the lines after; the same as long as the function says the same."""
        text = text_of(self.path)
        first, last = text.rfind("\n", 0, self.begin) + 1, text.find("\n", self.end)
        before, after = text[first:last], text[first : self.begin] + self.text + text[self.end : last]
        return f"{self.function}: {_one_line(before)} -> {_one_line(after)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


@functools.cache
def text_of(path: Path) -> str:
    """What a file says."""
    return path.read_text()


def modules(room: str) -> list[Path]:
    """Files of a room, as ``server.models``, or of one module, as ``fleet.rows``."""
    place = ROOT / PACKAGE / room.replace(".", "/")
    return sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]


def changes(path: Path) -> list[Change]:
    """Every change of a file."""
    visitor = _Visitor(path)
    MetadataWrapper(cst.parse_module(text_of(path))).visit(visitor)
    return visitor.changes


# What a change is a change of, and why no test is asked for.


def _callee(node: cst.CSTNode) -> str:
    if not isinstance(node, cst.Call):
        return ""
    return node.func.attr.value if isinstance(node.func, cst.Attribute) else getattr(node.func, "value", "")


def _is_words(node: cst.CSTNode) -> bool:
    """Whether a literal holds two words in a row: nothing of the wire format does."""
    if isinstance(node, cst.SimpleString):
        value = ast.literal_eval(node.value)
        return isinstance(value, str) and bool(_PROSE.search(value))
    if isinstance(node, cst.ConcatenatedString):
        return _is_words(node.left) or _is_words(node.right)
    if isinstance(node, cst.FormattedString):
        return any(isinstance(part, cst.FormattedStringText) and _PROSE.search(part.value) for part in node.parts)
    return False


def _changed_argument(old: cst.CSTNode, new: cst.CSTNode) -> cst.Arg | None:
    """The argument that a change of a call removes or makes None."""
    if not (isinstance(old, cst.Call) and isinstance(new, cst.Call)):
        return None
    left = [one for one in old.args if not any(one is other for other in new.args)]
    return left[0] if len(left) == 1 else None


def _in_message(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    argument = _changed_argument(old, new)
    joins = stack and isinstance(stack[-1], cst.Attribute) and stack[-1].attr.value == "join"
    if joins and isinstance(old, cst.SimpleString) and ast.literal_eval(old.value) in (", ", " "):
        return True
    if _is_words(old) or (argument is not None and _is_words(argument.value)):
        return True
    raised = any(isinstance(node, cst.Raise) for node in stack)
    return raised and any(isinstance(node, cst.FormattedString) for node in stack)


def _is_logged(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    return any(_callee(node) in _LOGGED for node in [*stack, old])


def _is_codec(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    argument = _changed_argument(old, new)
    value = old if argument is None else argument.value
    return isinstance(value, cst.SimpleString) and ast.literal_eval(value.value) in _CODECS


def _keyword(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> str:
    argument = _changed_argument(old, new) or (stack[-1] if stack and isinstance(stack[-1], cst.Arg) else None)
    return argument.keyword.value if argument is not None and argument.keyword else ""


def _is_strict(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    return _keyword(stack, old, new) == "strict"


def _is_of_threads(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    keyword = _keyword(stack, old, new)
    is_name = keyword == "name" and any(_callee(node) == "Thread" for node in [*stack[-2:], old])
    return is_name or keyword in {"daemon", "thread_name_prefix", "stacklevel"}


def _is_time_limit(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    return _keyword(stack, old, new) == "timeout"


def _is_falsy(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    argument = _changed_argument(old, new)
    value = getattr(old, "value", None) if argument is None else argument.value
    became_none = argument is not None or isinstance(getattr(new, "value", None), cst.Name)
    removed = argument is not None and len(new.args) < len(old.args)  # type: ignore[attr-defined]
    return isinstance(value, cst.Name) and value.value == "False" and became_none and not removed


def _is_size(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    shifts = [
        node for node in stack if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.LeftShift)
    ]
    return isinstance(old, cst.Integer) and bool(shifts)


def _is_cast(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    return any(_callee(node) == "cast" for node in [*stack[-2:], old])


def _is_set_of_letters(stack: list[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> bool:
    if not isinstance(old, cst.SimpleString) or not isinstance(new, cst.SimpleString):
        return False
    strips = any(_callee(node) in ("strip", "lstrip", "rstrip") for node in stack[-2:])
    return strips or _keyword(stack, old, new) == "safe"


RULES: dict[str, Callable[[list[cst.CSTNode], cst.CSTNode, cst.CSTNode], bool]] = {
    "words that people read: they are looked at, and tests of messages say what must be in them": _in_message,
    "lines of a log": _is_logged,
    "names of text encodings: case does not matter, UTF-8 is the default, and what is decoded is ASCII or was encoded "
    "here": _is_codec,
    "strict= of zip is a second lock: the lengths are equal by construction": _is_strict,
    "names of threads, and what happens to them when the process ends": _is_of_threads,
    "how long a socket, a lock or a process is waited for": _is_time_limit,
    "None instead of False: flags are asked whether they are true, and else the types say so": _is_falsy,
    "sizes such as 1 << 24: nothing depends on whether a limit is twice as high": _is_size,
    "the type given to cast() is for the type checker": _is_cast,
    "X beside the letters that strip() takes away, or that quote() leaves: these are still among them, an X at the end "
    "of a text means nothing to us, and is never quoted": _is_set_of_letters,
}


class _Visitor(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.changes: list[Change] = []
        self._stack: list[cst.CSTNode] = []
        text = text_of(path)
        self._starts = [0, *(index + 1 for index, letter in enumerate(text) if letter == "\n")]
        self._module = cst.parse_module("")

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation | cst.Decorator) or _callee(node) in ("len", "isinstance", "TypeVar"):
            return False
        if self._function()[0] and not _is_docstring(self._stack, node):
            self.changes += self._changes(node)
        self._stack.append(node)
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if self._stack and self._stack[-1] is original_node:
            self._stack.pop()

    def _function(self) -> tuple[str, tuple[int, int]]:
        """Qualified name of the outermost function that is being visited, and where it stands; "" outside of one."""
        names: list[str] = []
        for node in self._stack:
            if isinstance(node, cst.ClassDef | cst.FunctionDef):
                names.append(node.name.value)
            if isinstance(node, cst.FunctionDef):
                position = self.get_metadata(PositionProvider, node)
                return ".".join(names), (self._offset(position, "start"), self._offset(position, "end"))
        return "", (0, 0)

    def _changes(self, node: cst.CSTNode) -> Iterator[Change]:
        for kind, operator in mutation_operators:
            if not isinstance(node, kind):
                continue
            # A text is changed in one way only: what notices "XXaXX" notices "A".
            for new in list(operator(node))[: 1 if isinstance(node, cst.SimpleString) else None]:
                position = self.get_metadata(PositionProvider, node, None)
                if position is None:
                    continue
                rule = next((why for why, holds in RULES.items() if holds(self._stack, node, new)), None)
                begin, end = self._offset(position, "start"), self._offset(position, "end")
                text = self._module.code_for_node(new)
                yield Change(self.path, *self._function(), self._lines(node), begin, end, text, rule)

    def _offset(self, position: CodeRange, which: str) -> int:
        place = getattr(position, which)
        return self._starts[place.line - 1] + int(place.column)

    def _lines(self, node: cst.CSTNode) -> tuple[int, int]:
        for outer in reversed([*self._stack, node]):
            position = self.get_metadata(PositionProvider, outer, None)
            if position is None:
                continue
            if isinstance(outer, cst.BaseSmallStatement | cst.FunctionDef):
                return position.start.line, position.end.line
            body = getattr(outer, "body", None)
            if isinstance(outer, cst.BaseCompoundStatement) and isinstance(body, cst.BaseSuite):
                inner = self.get_metadata(PositionProvider, body)
                return position.start.line, max(position.start.line, inner.start.line - 1)
        raise AssertionError(f"{node} stands in no statement")


def _is_docstring(stack: list[cst.CSTNode], node: cst.CSTNode) -> bool:
    return isinstance(node, cst.SimpleString) and bool(stack) and isinstance(stack[-1], cst.Expr)
