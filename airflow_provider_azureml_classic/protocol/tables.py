"""Tables of the request/response service (RRS), in both forms of the wire.

The table form is ``{"ColumnNames": [...], "Values": [[...]]}``; the *swagger* form is a list of objects
(wire document, section 5). Cells of an answer are strings whatever their type, as the cloud service sent them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from operator import itemgetter
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.errors import json_object, known_members, repeated
from airflow_provider_azureml_classic.protocol.limits import CELLS_A_CELL, FREE_CELLS, MAX_CELLS, MAX_REPEATED_NAMES

#: Members of a scoring call and of its answer; a job's body has the first three.
INPUTS = "Inputs"
OUTPUTS = "Outputs"
GLOBAL_PARAMETERS = "GlobalParameters"
RESULTS = "Results"
_CALL = frozenset({INPUTS, OUTPUTS, GLOBAL_PARAMETERS})
_CALL_IN_LOWER_CASE = tuple(name.lower() for name in _CALL)
#: Letters of a member's name that are compared.
_LONGEST_NAME = 32
#: Members of a call: each that is none of ours is compared with those that are.
_MOST_MEMBERS = 1000


@dataclass(frozen=True)
class Table:
    """Named columns and rows.

    :param column_names: names, in order.
    :param values: rows; each as long as ``column_names``.
    :param column_types: ``Double``, ``Int64``, ``Boolean`` or ``String`` for each column, if known.
    """

    column_names: tuple[str, ...]
    values: Sequence[Sequence[Any]]
    column_types: tuple[str, ...] | None = None

    @classmethod
    def of(cls, rows: Table | Sequence[Mapping[str, Any]]) -> Table:
        """A table of ``rows``; columns in the order of their first appearance, absent cells ``None``.

        :param rows: a table (returned as it is) or one mapping a row.
        :raises RequestRejected: ``InputParseError``: the rows have so many different names that the table would be
            far larger than what is written.
        """
        if isinstance(rows, Table):
            return rows
        names = tuple(rows[0]) if rows else ()
        # Nearly always the rows have the same names: five times as fast as to ask each for each.
        if len(names) > 1 and {len(names)}.issuperset(map(len, rows)):
            with suppress(KeyError):
                return cls(names, [list(row) for row in map(itemgetter(*names), rows)])
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        most = min(MAX_CELLS, FREE_CELLS + CELLS_A_CELL * sum(map(len, rows)))
        if len(names) * len(rows) > most:
            raise rejection(
                "InputParseError",
                f"{len(rows)} rows with {len(names)} different column names make a table of "
                f"{len(names) * len(rows):,} cells; at most {most:,} are made of what was sent. Send fewer rows a "
                "call, each with the names that the others have.",
            )
        return cls(names, [[row.get(name) for name in names] for row in rows])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict a row."""
        return [dict(zip(self.column_names, row, strict=True)) for row in self.values]

    def column(self, name: str) -> list[Any]:
        """All cells of one column.

        :param name: the column's name.
        :raises ProtocolError: there is no such column; the message lists those that are there.
        """
        if name not in self.column_names:
            names = ", ".join(self.column_names)
            raise ProtocolError(f"The table has no column {name!r}; its columns are: {names}.")
        index = self.column_names.index(name)
        return [row[index] for row in self.values]

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Table:
        """A table in the table form, as :meth:`to_wire` makes it.

        :param data: decoded JSON.
        :raises ProtocolError: another form.
        """
        names, values = data.get("ColumnNames"), data.get("Values")
        if not isinstance(names, list) or not isinstance(values, list):
            raise ProtocolError("The table has no ColumnNames or no Values.")
        return cls(tuple(names), values)

    def to_wire(self) -> dict[str, Any]:
        """The table form of a request."""
        return {"ColumnNames": list(self.column_names), "Values": [list(row) for row in self.values]}


def read_call(body: Any) -> Mapping[str, Any]:
    """The members of a request/response call. Others are passed over, as clients write parameters of the query there.

    :param body: decoded JSON.
    :raises RequestRejected: no object, too many members, or a member that is nearly one of ours: a typing error would
        change the answer.
    """
    if not isinstance(body, Mapping):
        raise rejection("RequestBodyInvalid", "The body must be a JSON object with Inputs.")
    if _CALL.issuperset(body):
        return body
    if len(body) > _MOST_MEMBERS:
        raise rejection(
            "RequestBodyInvalid", f"The body has {len(body):,} members; at most {_MOST_MEMBERS:,} are read."
        )
    return known_members("The body", {key: value for key, value in body.items() if _is_meant(key)}, _CALL)


def _is_meant(key: str) -> bool:
    """Whether a member is one of a call's, or a typing error for one."""
    return bool(get_close_matches(key.lower()[:_LONGEST_NAME], _CALL_IN_LOWER_CASE, cutoff=0.75))


def the_input(body: Mapping[str, Any], name: str) -> Any:
    """The one input of a request/response call.

    :param body: members of the call.
    :param name: the only input that the web service has.
    :raises RequestRejected: naming the input at fault.
    """
    inputs = json_object(INPUTS, body.get(INPUTS) or {})
    if not inputs:
        raise rejection("MissingRequestInput", f"The body has no Inputs; it needs the input {name}.", target=name)
    if list(inputs) != [name]:
        wrong = next(key for key in inputs if key != name)
        raise rejection("InvalidInputNames", f"There is no input {wrong!r}; the inputs are: {name}.", target=wrong)
    return inputs[name]


def global_parameters(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The web service parameters of a call, by name; none, null and an empty object are alike.

    :param body: members of the call.
    :raises RequestRejected: ``RequestBodyInvalid``: they are no object.
    """
    return json_object(GLOBAL_PARAMETERS, body.get(GLOBAL_PARAMETERS) or {})


def write_results(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request/response answer.

    :param outputs: wire form by output name; see :func:`write_output`.
    """
    return {RESULTS: dict(outputs)}


def read_input(name: str, data: Any) -> Table:
    """The table that a client sent as input ``name``, in either form.

    :param name: name of the input, for messages.
    :param data: decoded JSON.
    :raises RequestRejected: ``InputParseError`` where the shape is neither form or a row's length is wrong.
    """
    if isinstance(data, list):
        return _from_objects(name, data)
    if isinstance(data, Mapping):
        members = {key.lower(): value for key, value in data.items()}
        names, values = members.get("columnnames"), members.get("values")
        if isinstance(names, list) and isinstance(values, list) and {str}.issuperset(map(type, names)):
            return Table(_columns(name, names), _checked_rows(name, names, values))
    raise rejection(
        "InputParseError",
        f"Input {name!r} is neither a table ({{'ColumnNames': [...], 'Values': [[...]]}}) nor a list of objects.",
        target=name,
    )


def _columns(name: str, names: Sequence[str]) -> tuple[str, ...]:
    # Without blanks around them, as the header rows of files are read.
    columns = tuple(map(str.strip, names))
    twice = repeated(columns)
    if twice is not None:
        raise rejection("InputParseError", f"Input {name!r} has the column {twice!r} twice.", target=name)
    return columns


def _checked_rows(name: str, names: list[str], values: list[Any]) -> list[list[Any]]:
    if {list}.issuperset(map(type, values)) and {len(names)}.issuperset(map(len, values)):
        return values
    for number, row in enumerate(values, 1):
        if not isinstance(row, list):
            raise rejection("InputParseError", f"Row {number} of input {name!r} is not a list of values.", target=name)
        if len(row) != len(names):
            raise rejection(
                "InputParseError",
                f"Row {number} of input {name!r} has {len(row)} values; ColumnNames has {len(names)}.",
                target=name,
            )
    return values


def _from_objects(name: str, items: list[Any]) -> Table:
    for number, item in enumerate(items, 1):
        if not isinstance(item, Mapping):
            raise rejection("InputParseError", f"Row {number} of input {name!r} is not an object.", target=name)
    table = Table.of(items)
    return Table(_columns(name, table.column_names), table.values)


def write_output(table: Table, *, swagger: bool, details: bool) -> Any:
    """The wire form of one output.

    :param table: cells already in their wire form (strings or ``None``).
    :param swagger: the list-of-objects form; it wins over ``details``, as clients that send both read objects.
    :param details: add ``ColumnTypes``.
    :raises RequestRejected: ``InputParseError``: the names, repeated in each row, would be far longer than what was
        sent.
    """
    if swagger:
        if len(table.values) * sum(map(len, table.column_names)) > MAX_REPEATED_NAMES:
            raise rejection(
                "InputParseError",
                f"{len(table.values)} rows of objects with these column names make too long an answer. Send fewer "
                "rows a call, or ask for the table form.",
            )
        return table.rows
    types = {"ColumnTypes": table.column_types} if details and table.column_types is not None else {}
    return {"type": "table", "value": {"ColumnNames": table.column_names, **types, "Values": table.values}}


def read_output(name: str, data: Any) -> Table:
    """The table that a server sent as output ``name``: table form, ``DataTable`` form, or list of objects.

    :param name: name of the output, for messages.
    :param data: decoded JSON.
    :raises ProtocolError: neither form.
    """
    if isinstance(data, list) and all(isinstance(item, Mapping) for item in data):
        return Table.of(data)
    value = data.get("value") if isinstance(data, Mapping) else None
    if isinstance(value, Mapping) and isinstance(value.get("Values"), list):
        names, types = (value.get(member) or [] for member in ("ColumnNames", "ColumnTypes"))
        if not isinstance(names, list | tuple) or not isinstance(types, list | tuple):
            raise ProtocolError(f"Output {name!r} has ColumnNames or ColumnTypes that are no list.")
        if all(isinstance(row, list | tuple) and len(row) == len(names) for row in value["Values"]):
            return Table(tuple(names), value["Values"], tuple(types) or None)
        raise ProtocolError(f"Output {name!r} has a row that does not fit its {len(names)} ColumnNames.")
    raise ProtocolError(f"Output {name!r} is neither a table nor a list of objects.")
