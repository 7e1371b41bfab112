"""Expressions of Data Factory, version 1 and 2, and of Resource Manager templates: read once, written as Jinja.

``$$Text.Format('{0:yyyy-MM-dd}', Date.AddDays(WindowStart, -1))``,
``@{formatDateTime(pipeline().TriggerTime, 'yyyy')}`` and ``[concat(parameters('x'), '/y')]`` are calls, names and
literals alike.

Facts: azure-docs ``data-factory/v1/data-factory-functions-variables``,
``data-factory/control-flow-expression-language-functions`` and
``resource-manager-template-functions``; formats are those of .NET.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

#: Depth of nesting, and letters, of one expression.
MAX_DEPTH, MAX_LENGTH = 40, 100_000

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|''|\\.)*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<sign>[()\[\],.?]))"
)
_FORMATS = re.compile(r"yyyy|yy|MMMM|MMM|MM|M|dddd|ddd|dd|d|HH|H|hh|h|mm|m|ss|s|fff|tt|'[^']*'|\\.|.", re.DOTALL)
_STRFTIME: Mapping[str, str] = MappingProxyType(
    {"yyyy": "%Y", "yy": "%y", "MMMM": "%B", "MMM": "%b", "MM": "%m", "dddd": "%A", "ddd": "%a", "dd": "%d", "HH": "%H"}
    | {"hh": "%I", "mm": "%M", "ss": "%S", "tt": "%p"}
)
_START = "data_interval_start"
_END = "data_interval_end"
#: The moment of a run that has no interval.
_RUN = "(data_interval_end | default(dag_run.run_after, true))"
_MOMENTS: Mapping[str, str] = MappingProxyType(
    {"windowstart": _START, "slicestart": _START, "windowend": _END, "sliceend": _END}
    | {"pipeline().triggertime": _RUN, "trigger().scheduledtime": _RUN, "trigger().starttime": _RUN}
    | {"trigger().outputs.windowstarttime": _START, "trigger().outputs.windowendtime": _END}
)
_TEXTS: Mapping[str, str] = MappingProxyType(
    {"pipeline().runid": "run_id", "pipeline().pipeline": "dag.dag_id", "pipeline().triggername": "dag.dag_id"}
)
#: How a moment is written where nothing else is said.
_ISO = "yyyy-MM-ddTHH:mm:ss"
#: Functions of a moment, a number and a unit.
_CALCULATED: Mapping[str, str] = MappingProxyType({"addtotime": "+", "subtractfromtime": "-"})
_HOUR = "minute=0, second=0, microsecond=0"
_BEGINNINGS: Mapping[str, str] = MappingProxyType(
    {"startofhour": _HOUR, "startofday": f"hour=0, {_HOUR}", "startofmonth": f"day=1, hour=0, {_HOUR}"}
)
_UNITS = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")


#: Values that are looked up for one text of a template, and characters of what they make.
MAX_STEPS, MAX_TEXT = 1_000, 100_000


class NotConverted(ValueError):
    """An expression that has no counterpart; the message says which part."""


@dataclass(frozen=True)
class Node:
    """A part of an expression.

    :param kind: ``text``, ``number``, ``name``, ``call`` or ``member``.
    :param value: text, number, or name in the spelling of the file.
    :param parts: arguments of a call; what a member is of.
    """

    kind: str
    value: Any
    parts: tuple[Node, ...] = ()

    @property
    def path(self) -> str:
        """``pipeline().parameters.x`` of such members, in lower case; a call's arguments are left out."""
        if self.kind == "member":
            return f"{self.parts[0].path}.{str(self.value).lower()}"
        return str(self.value).lower() + ("()" if self.kind == "call" else "")


def parse(text: str) -> Node:
    """The tree of one expression.

    :param text: without its ``$$``, ``@`` or brackets.
    :raises NotConverted: it is none, or too long or deep.
    """
    if len(text) > MAX_LENGTH:
        raise NotConverted(f"the expression has over {MAX_LENGTH} letters")
    parser = _Parser(text)
    node = parser.expression(0)
    if text[parser.at :].strip():
        raise NotConverted(f"{text[parser.at : parser.at + 20]!r} is not expected")
    return node


class _Parser:
    """Reads from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.at = 0

    def _next(self, sign: str = "") -> re.Match[str] | None:
        """The next token, or only if it is ``sign``."""
        token = _TOKEN.match(self._text, self.at)
        if token is None or (sign and token["sign"] != sign):
            return None
        self.at = token.end()
        return token

    def expression(self, depth: int) -> Node:
        """A literal, or a name with what follows it."""
        token = self._next()
        if depth > MAX_DEPTH or token is None or token["sign"]:
            raise NotConverted("the expression is nested too deeply, or ends too early")
        if token["text"]:
            return Node("text", re.sub(r"''|\\(.)", lambda found: found[1] or "'", token["text"][1:-1]))
        if token["number"]:
            return Node("number", token["number"])
        node = Node("name", token["name"])
        while True:
            if self._next("("):
                node = Node("call", _dotted(node), self._arguments(depth + 1))
            elif self._next("."):
                name = self._next()
                if name is None or not name["name"]:
                    raise NotConverted("a name is missing after a dot")
                node = Node("member", name["name"], (node,))
            elif self._next("["):
                node = Node("member", self.expression(depth + 1).value, (node,))
                if not self._next("]"):
                    raise NotConverted("a bracket is not closed")
            elif not self._next("?"):
                return node

    def _arguments(self, depth: int) -> tuple[Node, ...]:
        if self._next(")"):
            return ()
        arguments = [self.expression(depth)]
        while self._next(","):
            arguments.append(self.expression(depth))
        if not self._next(")"):
            raise NotConverted("a parenthesis is not closed")
        return tuple(arguments)


def _dotted(node: Node) -> str:
    """The name of what is called: ``Text.Format`` is one name."""
    return str(node.value) if node.kind == "name" else f"{_dotted(node.parts[0])}.{node.value}" if node.parts else ""


def strftime(dotnet: str) -> str:
    """The format of Python that a format of .NET is.

    :param dotnet: for example ``yyyy-MM-dd HH:mm:ss``.
    :raises NotConverted: a part that Python has not.
    """
    parts = []
    for part in _FORMATS.findall(dotnet):
        if part in _STRFTIME:
            parts.append(_STRFTIME[part])
        elif part.startswith(("'", "\\")) and len(part) > 1:
            parts.append(part.strip("'\\").replace("%", "%%"))
        elif part.isalpha() and part not in ("T", "Z"):
            raise NotConverted(f"the part {part!r} of the format {dotnet!r}")
        else:
            parts.append(part.replace("%", "%%"))
    return "".join(parts)


def _call(node: Node) -> str:
    name = str(node.value).lower()
    if name == "text.format":
        return " ~ ".join(_formatted(node)) or "''"
    if name == "concat":
        return "(" + " ~ ".join(text_code(part) for part in node.parts) + ")"
    if name == "formatdatetime" and node.parts:
        return _moment_text(moment_code(node.parts[0]), _argument(node, 1) or _ISO)
    raise NotConverted(f"the function {node.value} has no counterpart")


def text_code(node: Node) -> str:
    """The Jinja expression of a text that a tree is; a moment is written as ISO 8601, or as it says.

    :param node: as parsed.
    :raises NotConverted: a name or function that has no counterpart.
    """
    if node.kind == "text":
        return repr(node.value)
    if node.kind == "number":
        return str(node.value)
    moment = _known_moment(node)
    if moment:
        return _moment_text(*moment)
    if node.kind == "call":
        return _call(node)
    if node.path in _TEXTS:
        return _TEXTS[node.path]
    if node.path.startswith("pipeline().parameters."):
        return f"params[{str(node.value)!r}]"
    raise NotConverted(f"{node.path} has no counterpart")


def moment_code(node: Node) -> str:
    """The Jinja expression of a moment that a tree is; what is a text, such as a parameter, is read as one.

    :param node: as parsed.
    :raises NotConverted: a name or function that has no counterpart.
    """
    moment = _known_moment(node)
    return moment[0] if moment else f"macros.dateutil.parser.parse({text_code(node)})"


def _known_moment(node: Node) -> tuple[str, str] | None:
    """Code of a moment, and how it is written as a text; ``None`` for what is a text."""
    if node.path in _MOMENTS:
        return _MOMENTS[node.path], _ISO
    name = str(node.value).lower() if node.kind == "call" else ""
    if name == "utcnow":
        return _RUN, _argument(node, 0) or _ISO
    added = re.fullmatch(r"(?:(?:date|time|datetime)\.)?add(\w+)", name)
    if added and added[1] in _UNITS and len(node.parts) >= 2:
        return _moved(node, added[1]), _argument(node, 2) or _ISO
    if name in _CALCULATED and len(node.parts) >= 3:
        unit = f"{str(node.parts[2].value).lower().removesuffix('s')}s"
        if unit in _UNITS:
            return _moved(node, unit, _CALCULATED[name]), _argument(node, 3) or _ISO
    if name in _BEGINNINGS and node.parts:
        return f"{moment_code(node.parts[0])}.replace({_BEGINNINGS[name]})", _argument(node, 1) or _ISO
    return None


def _moved(node: Node, unit: str, sign: str = "+") -> str:
    """A moment, and so many units more or less; months and years are none of Python's own."""
    delta = "macros.dateutil.relativedelta.relativedelta" if unit in ("years", "months") else "macros.timedelta"
    return f"({moment_code(node.parts[0])} {sign} {delta}({unit}={_number_code(node.parts[1])}))"


def _number_code(node: Node) -> str:
    return str(node.value) if node.kind == "number" else f"({text_code(node)} | int)"


def _argument(node: Node, place: int) -> str:
    """A format among the arguments of a call; empty where it has none."""
    if len(node.parts) <= place:
        return ""
    if node.parts[place].kind != "text":
        raise NotConverted(f"the format of {node.value} is no text")
    return str(node.parts[place].value)


def _moment_text(moment: str, dotnet: str) -> str:
    return f"{moment}.strftime({strftime(dotnet)!r})"


def _pieces(node: Node) -> list[tuple[str, bool]]:
    """The parts of a ``Text.Format``: each with whether it is code."""
    if not node.parts or node.parts[0].kind != "text":
        raise NotConverted("Text.Format without a format")
    pieces: list[tuple[str, bool]] = []
    for literal, opened, number, form in re.findall(r"([^{}]+)|({)(\d+)(?::([^}]*))?}", node.parts[0].value):
        if literal:
            pieces.append((literal, False))
        elif opened and int(number) + 1 < len(node.parts):
            argument = node.parts[int(number) + 1]
            pieces.append((_moment_text(moment_code(argument), form) if form else text_code(argument), True))
        else:
            raise NotConverted(f"Text.Format names the argument {number}, which is not there")
    return pieces


def _formatted(node: Node) -> list[str]:
    return [text if is_code else repr(text) for text, is_code in _pieces(node)]


def _literal(text: str) -> str:
    """A text as part of a template: Jinja's own signs are written as texts."""
    return re.sub(r"{{|{%|{#|}}|%}|#}", lambda found: f"{{{{ {found[0]!r} }}}}", text)


def template(value: str) -> str:
    """The Jinja template that a value of a Data Factory file is.

    :param value: as written: literal, ``$$…``, ``@…``, or with ``@{…}`` in it.
    :raises NotConverted: a part that has no counterpart.
    """
    if value.startswith("$$"):
        node = parse(value[2:])
        if node.kind == "call" and str(node.value).lower() == "text.format":
            return "".join(f"{{{{ {text} }}}}" if is_code else _literal(text) for text, is_code in _pieces(node))
        return f"{{{{ {text_code(node)} }}}}"
    if value.startswith("@@"):
        return _literal(value[1:])
    if value.startswith("@") and not value.startswith("@{"):
        return f"{{{{ {text_code(parse(value[1:]))} }}}}"
    parts = re.split(r"@\{((?:[^'{}]|'(?:[^']|'')*+')*+)\}", value)
    return "".join(
        f"{{{{ {text_code(parse(part))} }}}}" if number % 2 else _literal(part) for number, part in enumerate(parts)
    )


def resolved(value: str, names: Mapping[str, Any], depth: int = 0, steps: Iterator[int] | None = None) -> Any:
    """A value of a Resource Manager template, as far as the template itself says it.

    :param value: as written; ``[…]`` is an expression.
    :param names: ``parameters`` and ``variables`` by name; secrets are not among them.
    :param depth: of variables that name others.
    :param steps: those that are left: each variable may name another one twice.
    """
    if not (value.startswith("[") and value.endswith("]")) or value.startswith("[["):
        return value[1:] if value.startswith("[[") else value
    try:
        return _arm(parse(value[1:-1]), names, depth, iter(range(MAX_STEPS)) if steps is None else steps)
    except NotConverted:
        return f"<{value[1:-1]}>"


def _arm(node: Node, names: Mapping[str, Any], depth: int, steps: Iterator[int]) -> Any:
    def value(part: Node) -> Any:
        return _arm(part, names, depth, steps)

    if depth > MAX_DEPTH or next(steps, None) is None:
        raise NotConverted("variables name each other")
    if node.kind == "text":
        return node.value
    if node.kind == "member":
        holder = value(node.parts[0])
        if isinstance(holder, Mapping) and node.value in holder:
            inner = holder[node.value]
            return resolved(inner, names, depth + 1, steps) if isinstance(inner, str) else inner
    function = _ARM.get(str(node.value).lower()) if node.kind == "call" else None
    if function:
        texts: list[str] = []
        for part in node.parts:
            texts.append(str(value(part)))
            if sum(map(len, texts)) > MAX_TEXT:
                raise NotConverted("its text is too long")
        return function(*texts)
    if node.kind == "call" and str(node.value).lower() in ("parameters", "variables"):
        inner = names.get(f"{str(node.value).lower()}.{node.parts[0].value}")
        if inner is not None:
            return resolved(inner, names, depth + 1, steps) if isinstance(inner, str) else inner
        return f"<{node.parts[0].value}>"
    raise NotConverted(f"{node.path} has no counterpart")


_ARM: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "concat": lambda *parts: "".join(parts),
        "tolower": lambda text: text.lower(),
        "toupper": lambda text: text.upper(),
        "uniquestring": lambda *_: "<unique>",
        "string": lambda text: text,
    }
)
