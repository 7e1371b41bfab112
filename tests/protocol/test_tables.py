"""Tables of the scoring service: two forms, read and written, with rows that fit their columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.tables import (
    Table,
    global_parameters,
    read_call,
    read_input,
    read_output,
    the_input,
    write_output,
    write_results,
)

SAMPLES = Path(__file__).parents[1] / "samples"
TABLE = Table(("x", "y"), [["1", "a"], ["2", None]], ("Int64", "String"))
OBJECTS = [{"x": "1", "y": "a"}, {"x": "2", "y": None}]
FACTORY = settings(database=None, deadline=None, max_examples=60)

_cells = st.none() | st.text(max_size=5)
# Blanks around names are not kept.
_names = st.text(min_size=1, max_size=5).filter(lambda name: name == name.strip())
_tables = st.lists(_names, min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.builds(
        Table,
        st.just(tuple(names)),
        st.lists(st.lists(_cells, min_size=len(names), max_size=len(names)), min_size=1, max_size=4),
        st.none() | st.just(("String",) * len(names)),
    )
)


@pytest.mark.slow
@FACTORY
@given(_tables)
def test_output_round_trip(table: Table) -> None:
    """What the server writes in either form is what the client reads."""
    detailed = read_output("o", json.loads(json.dumps(write_output(table, swagger=False, details=True))))
    plain = read_output("o", json.loads(json.dumps(write_output(table, swagger=False, details=False))))
    swagger = read_output("o", json.loads(json.dumps(write_output(table, swagger=True, details=True))))
    assert detailed == table
    assert plain == Table(table.column_names, table.values)
    assert swagger == plain


@pytest.mark.slow
@FACTORY
@given(_tables)
def test_input_round_trip(table: Table) -> None:
    """What the client writes is what the server reads, and rows as objects give the same table."""
    assert read_input("i", json.loads(json.dumps(table.to_wire()))) == Table(table.column_names, table.values)
    assert read_input("i", table.rows).rows == table.rows


def test_objects_with_other_names_or_in_another_order_are_one_table() -> None:
    """Columns come in the order of their first appearance; what an object lacks is nothing."""
    table = read_input("i", [{"x": 1, "y": 2}, {"y": 4, "x": 3}, {"x": 5, "z": 6}])
    assert (table.column_names, table.values) == (("x", "y", "z"), [[1, 2, None], [3, 4, None], [5, None, 6]])
    assert read_input("i", [{"x": 1, "y": 2}, {"y": 4, "x": 3}]).values == [[1, 2], [3, 4]]
    assert read_input("i", [{"x": 1}, {"y": 2}]).values == [[1, None], [None, 2]]
    more = read_input("i", [{"x": 1, "y": 2}, {"x": 3, "y": 4, "z": 5}])
    assert (more.column_names, more.values) == (("x", "y", "z"), [[1, 2, None], [3, 4, 5]])
    assert read_input("i", []).column_names == ()


@pytest.mark.parametrize("name", ["score_table", "score_datatable", "score_swagger"])
def test_samples(name: str) -> None:
    """The three forms that sources show are one table; the word in ``type`` is ignored."""
    answer = json.loads((SAMPLES / f"{name}.json").read_text())
    table = read_output("output1", answer["Results"]["output1"])
    assert table.column("Scored Probabilities") == ["0.71", "0.12"]
    assert table.column_names == ("Scored Labels", "Scored Probabilities")


def test_written_forms() -> None:
    """Members come in the documented order; ``ColumnTypes`` only if asked for and known; swagger wins over details."""
    assert json.dumps(write_output(TABLE, swagger=False, details=True)) == (
        '{"type": "table", "value": {"ColumnNames": ["x", "y"], "ColumnTypes": ["Int64", "String"], '
        '"Values": [["1", "a"], ["2", null]]}}'
    )
    assert "ColumnTypes" not in write_output(TABLE, swagger=False, details=False)["value"]
    assert "ColumnTypes" not in write_output(Table(("x",), [["1"]]), swagger=False, details=True)["value"]
    assert write_output(TABLE, swagger=True, details=True) == OBJECTS
    assert write_results({"output1": OBJECTS}) == {"Results": {"output1": OBJECTS}}
    assert read_output("o", write_output(TABLE, swagger=False, details=True)) == TABLE


@pytest.mark.parametrize("spelled", [str, str.lower, str.upper])
def test_members_of_a_table_in_any_case(spelled: Callable[[str], str]) -> None:
    """As readers of .NET took them, and writers of Java write them."""
    sent = {spelled("ColumnNames"): ["x"], "Values": [[1]], "More": 1}
    assert read_input("i", sent) == Table(("x",), [[1]])
    assert read_input("i", {"ColumnNames": ["x"], spelled("Values"): [[1]]}) == Table(("x",), [[1]])


def test_a_table_in_the_table_form() -> None:
    """It has names and values, or is none."""
    assert Table.from_wire({"ColumnNames": ["x"], "Values": [[1]]}) == Table(("x",), [[1]])
    for data in ({"ColumnNames": ["x"]}, {"Values": [[1]]}, {}):
        with pytest.raises(ProtocolError, match="no ColumnNames or no Values"):
            Table.from_wire(data)


def test_rows_with_many_different_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that nobody wrote are bounded by those that were: here 3, and 2 for each."""
    monkeypatch.setattr("airflow_provider_azureml_classic.protocol.tables.FREE_CELLS", 3)
    monkeypatch.setattr("airflow_provider_azureml_classic.protocol.tables.CELLS_A_CELL", 2)
    rows = [{str(number): 1} for number in range(4)]
    assert len(Table.of(rows[:3]).column_names) == 3
    with pytest.raises(RequestRejected, match="16 cells; at most 11 are made") as caught:
        Table.of(rows)
    assert caught.value.detail_code == "InputParseError"


def test_an_answer_that_repeats_long_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Letters of the names, times the rows, are bounded."""
    monkeypatch.setattr("airflow_provider_azureml_classic.protocol.tables.MAX_REPEATED_NAMES", 6)
    assert len(write_output(Table(("abc",), [[1], [2]]), swagger=True, details=False)) == 2
    with pytest.raises(RequestRejected, match=r"3 rows of objects .* too long an answer") as caught:
        write_output(Table(("abc",), [[1], [2], [3]]), swagger=True, details=False)
    assert caught.value.detail_code == "InputParseError"


def test_of_mappings() -> None:
    """Columns come in the order of their first appearance; a row that lacks one has ``None`` there."""
    table = Table.of([{"b": 1}, {"a": 2, "b": 3}])
    assert table == Table(("b", "a"), [[1, None], [3, 2]])
    assert Table.of([]) == Table((), [])
    assert Table.of(table) is table
    assert table.rows == [{"b": 1, "a": None}, {"b": 3, "a": 2}]


def test_column() -> None:
    """A column is found by its exact name; otherwise the message lists what is there."""
    assert TABLE.column("y") == ["a", None]
    with pytest.raises(ProtocolError, match="no column 'Y'; its columns are: x, y"):
        TABLE.column("Y")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "neither a table"),
        ({}, "neither a table"),
        ({"ColumnNames": ["x"]}, "neither a table"),
        ({"ColumnNames": "x", "Values": []}, "neither a table"),
        ({"ColumnNames": [1], "Values": [[1]]}, "neither a table"),
        ({"ColumnNames": ["x"], "Values": [["1"], ["2", "3"]]}, "Row 2 of input 'input1' has 2 values"),
        ({"ColumnNames": ["x"], "Values": [{"x": 1}]}, "Row 1 of input 'input1' is not a list"),
        ({"ColumnNames": ["x", "y", "x"], "Values": [[1, 2, 3]]}, "has the column 'x' twice"),
        ([{"x": 1}, 5], "Row 2 of input 'input1' is not an object"),
        ([{"x": 1, " x": 2}], "Input 'input1' has the column 'x' twice"),
    ],
)
def test_bad_input(data: Any, said: str) -> None:
    """An input of no known form, or a row of the wrong length, is refused with its number and name."""
    with pytest.raises(RequestRejected, match=said) as caught:
        read_input("input1", data)
    assert (caught.value.detail_code, caught.value.details[0].target) == ("InputParseError", "input1")


@pytest.mark.parametrize(
    "data",
    [
        None,
        "text",
        {},
        {"value": None},
        {"value": {"ColumnNames": ["x"]}},
        {"value": {"Values": [["1"]]}},
        {"value": {"ColumnNames": ["x"], "Values": [["1", "2"]]}},
        {"value": {"ColumnNames": ["x"], "Values": ["1"]}},
        {"value": {"ColumnNames": "x", "Values": [["1"]]}},
        {"value": {"ColumnNames": 5, "Values": []}},
        {"value": {"ColumnNames": ["x"], "ColumnTypes": "Double", "Values": [["1"]]}},
        [1],
    ],
)
def test_bad_output(data: Any) -> None:
    """An output of no known form, or with rows that do not fit its columns, is not the protocol's; it is named."""
    with pytest.raises(ProtocolError, match="'output1'"):
        read_output("output1", data)


def test_empty_output() -> None:
    """A table without rows is a table."""
    assert read_output("o", []) == Table((), [])
    assert read_output("o", {"value": {"ColumnNames": ["x"], "Values": []}}) == Table(("x",), [])


@pytest.mark.parametrize(
    ("body", "code", "target"),
    [
        ([], "RequestBodyInvalid", None),
        ("Inputs", "RequestBodyInvalid", None),
        ({"Input": {}}, "UnexpectedParameter", "Input"),
        ({"Inputs": {"input1": []}, "GolbalParameters": {}}, "UnexpectedParameter", "GolbalParameters"),
        ({"api-version": "2.0", "details": True, "x" * 99999: 1}, "MissingRequestInput", "input1"),
        ({}, "MissingRequestInput", "input1"),
        ({"Inputs": {}}, "MissingRequestInput", "input1"),
        ({"Inputs": 5}, "RequestBodyInvalid", "Inputs"),
        ({"Inputs": {"input1": [], "input2": []}}, "InvalidInputNames", "input2"),
        ({"Inputs": {"input2": []}}, "InvalidInputNames", "input2"),
    ],
)
def test_calls_without_the_one_input(body: Any, code: str, target: str | None) -> None:
    """A call names exactly the input that the web service has."""
    with pytest.raises(RequestRejected) as error:
        the_input(read_call(body), "input1")
    assert (error.value.detail_code, error.value.details[0].target) == (code, target)


def test_global_parameters() -> None:
    """By name; none, null and an empty object are alike, and nothing else is taken for one."""
    assert global_parameters({"GlobalParameters": {"a": 1}}) == {"a": 1}
    assert [dict(global_parameters(body)) for body in ({}, {"GlobalParameters": None})] == [{}, {}]
    with pytest.raises(RequestRejected, match="GlobalParameters must be an object") as caught:
        global_parameters({"GlobalParameters": [1]})
    assert caught.value.details[0].target == "GlobalParameters"


def test_a_row_that_is_no_list() -> None:
    """It is refused by its number."""
    with pytest.raises(RequestRejected, match="Row 2 of input 'i' is not a list of values"):
        read_input("i", {"ColumnNames": ["x"], "Values": [["1"], "2"]})


def test_members_of_a_call_are_bounded() -> None:
    """Others than ours are passed over, but not any number of them."""
    others = {f"other{number}": number for number in range(998)}
    assert read_call({"Inputs": {}, "put": 1, **others}) == {"Inputs": {}}
    with pytest.raises(RequestRejected, match="1,001 members; at most 1,000"):
        read_call({"Inputs": {}, **others, "more": 1, "most": 1})
