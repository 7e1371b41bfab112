"""Files as people have them, through a whole training: trained as a person would read them, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer, TrainingSummary, train
from airflow_provider_azureml_classic.server.experiments.batch import score_file
from airflow_provider_azureml_classic.server.experiments.declaration import from_table
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, STRING, Schema
from tests.tables.support import CASES

TREE = "sklearn.tree.DecisionTreeClassifier"


def trained(
    folder: Path, name: str, schema: Schema | None = None, estimator: str = TREE, **keys: Any
) -> tuple[TrainingSummary, Scorer]:
    """A training on one of the files, and its model."""
    table = {"name": "People", "estimator": estimator, "label": "y", "first_data": str(CASES / name), **keys}
    declared = from_table("the test", folder, table)
    summary = train(declared, schema, CASES / name, folder / "m.ilearner", folder / "e.csv")
    return summary, Scorer.load(folder / "m.ilearner")


def labels(scorer: Scorer, column: str, *cells: object) -> list[str]:
    """What the model answers to rows of one column."""
    return list(scorer.score(Table((column,), [[cell] for cell in cells])).column("Scored Labels"))


@pytest.mark.parametrize("sign", ["na", "nan", "null", "backslash_n"])
def test_signs_of_no_value_leave_a_number_a_number(tmp_path: Path, sign: str) -> None:
    """A column of numbers with a usual sign for no value is one of numbers, and the model is good."""
    summary, _ = trained(tmp_path, f"01/{sign}.csv")
    assert {column.name: column.kind for column in summary.schema.features}["x"] == NUMBER
    assert summary.metrics["Accuracy"] >= 0.9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("01/dash.csv", r"Column 'x', row \d+: '-' .*missing = "),
        ("01/inf.csv", r"Column 'x', row \d+: .*inf.*missing"),
        ("12/open_quote.csv", r"data row 1\b.*(quote|closed)|(quote|closed).*data row 1\b"),
        ("14/CASE", r"Column '.*', row \d+: .* as spreadsheets show numbers"),
        ("21/last_column.csv", "(?i)data row 101"),
        ("21/label_last.csv", "(?i)data row"),
        ("21/two_quotes.csv", "(?i)data row"),
    ],
)
def test_what_cannot_be_read_fails_the_training(tmp_path: Path, name: str, message: str) -> None:
    """The message names the row, the cell and the remedy, and is short."""
    files = [file for file in sorted((CASES / name[:2]).iterdir()) if file.suffix == ".csv"] if "CASE" in name else []
    for file in files or [CASES / name]:
        with pytest.raises(RequestRejected, match=message) as caught:
            trained(tmp_path, str(file.relative_to(CASES)))
        assert len(caught.value.message) < 1000


@pytest.mark.parametrize("spelling", ["upper", "title", "lower"])
def test_truth_values_of_calls_are_those_of_the_data(tmp_path: Path, spelling: str) -> None:
    """True and false mean the same however file and call spell them."""
    _, scorer = trained(tmp_path, f"02/{spelling}.csv")
    assert labels(scorer, "b", True, False, "true", "True", "TRUE", "false") == ["a", "b", "a", "a", "a", "b"]


def test_windows_1252_keeps_its_euro_sign(tmp_path: Path) -> None:
    """The CSV that Excel writes is read in its encoding, names of columns included."""
    _, scorer = trained(tmp_path, "03/euro.csv")
    assert labels(scorer, "b", "50 €", "100 €") == ["a", "b"]
    _, scorer = trained(tmp_path, "03/column_name.csv")
    assert labels(scorer, "Preis €", 30) == ["b"]


def test_codes_are_one_category_however_a_call_sends_them(tmp_path: Path) -> None:
    """A number of JSON is the text of the data."""
    _, scorer = trained(tmp_path, "17/codes.csv")
    assert labels(scorer, "b", 1, 2, 1.0, "1.0") == ["a", "b", "a", "a"]


def test_labels_stay_in_the_spelling_of_the_first_data(tmp_path: Path) -> None:
    """0.0 and 1.0 are the classes 0 and 1, also within one file."""
    first, _ = trained(tmp_path, "11/ints.csv")
    later, _ = trained(tmp_path, "11/floats.csv", first.schema)
    mixed, _ = trained(tmp_path, "11/mixed.csv")
    assert first.schema.classes == later.schema.classes == mixed.schema.classes == ("0", "1")


def test_a_column_gets_its_kind_with_its_first_values(tmp_path: Path) -> None:
    """What is empty in the first data is noted there, and a number as soon as numbers come."""
    files = sorted(file.name for file in (CASES / "10").glob("*.csv"))
    first = next(name for name in files if name != "february.csv")
    january, _ = trained(tmp_path, f"10/{first}")
    assert any("'z': has no value" in note for note in january.notes)
    february, _ = trained(tmp_path, "10/february.csv", january.schema)
    kinds = [{column.name: column.kind for column in one.schema.features}["z"] for one in (january, february)]
    assert kinds == [STRING, NUMBER]


def test_as_many_rows_are_scored_as_were_sent(tmp_path: Path) -> None:
    """A blank line in a file of one column is a missing cell."""
    table = "x,y\n" + "".join(f"{i},{'ab'[i > 20]}\n" for i in range(40))
    (tmp_path / "d.csv").write_text(table)
    declared = from_table("the test", tmp_path, {"name": "P", "estimator": TREE, "label": "y", "first_data": "d.csv"})
    train(declared, None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv")
    assert score_file(tmp_path / "m.ilearner", CASES / "16/score.csv", tmp_path / "s.csv").rows == 3


def test_years_are_names_of_columns_beside_the_others(tmp_path: Path) -> None:
    """A row with the label or a feature is the header row, whatever else stands in it: in training and in scoring."""
    rows = "".join(f"{i},{i % 7},{i}\n" for i in range(60))
    (tmp_path / "d.csv").write_text(f"1999,2000,y\n{rows}")
    tree = "sklearn.tree.DecisionTreeRegressor"
    declared = from_table("the test", tmp_path, {"name": "P", "estimator": tree, "label": "y", "first_data": "d.csv"})
    summary = train(declared, None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv")
    assert summary.schema.names == ("1999", "2000")
    (tmp_path / "ask.csv").write_text("2000,1999\n1,2\n3,4\n")
    assert score_file(tmp_path / "m.ilearner", tmp_path / "ask.csv", tmp_path / "s.csv").rows == 2


@pytest.mark.parametrize("name", ["13/semicolon.csv", "13/tabs.tsv"])
def test_decimal_commas_are_numbers_with_any_delimiter(tmp_path: Path, name: str) -> None:
    """Semicolons and tabs mean the same."""
    summary, _ = trained(tmp_path, name, estimator="sklearn.tree.DecisionTreeRegressor")
    assert (summary.schema.features[0].kind, summary.schema.features[0].minimum) == (NUMBER, 0.5)


@pytest.mark.slow
def test_day_and_month_are_told_apart_or_asked_for(tmp_path: Path) -> None:
    """Dates that could be read either way are refused until the declaration says which they are."""
    month_first = {"columns": {"t": {"kind": "date", "date_format": "%m/%d/%Y"}}, "time_column": "t"}
    with pytest.raises(RequestRejected, match="date_format"):
        trained(tmp_path, "09/us_5th.csv", time_column="t")
    assert trained(tmp_path, "09/us_5th.csv", **month_first)[0].window[0].startswith("2026-0")
    assert trained(tmp_path, "09/us_13th_seconds.csv", time_column="t")[0].window[0] == "2026-03-13T10:00:00"


def test_thousands_and_guesses_of_later_files(tmp_path: Path) -> None:
    """A later file with separators of thousands is neither trained on nor scored; a guessed encoding is noted."""
    numbers = "".join(f"{800 + i * 10}.5,{'ab'[i > 20]}\n" for i in range(40))
    (tmp_path / "d.csv").write_bytes(f"x,y\n{numbers}".encode())
    declared = from_table("the test", tmp_path, {"name": "P", "estimator": TREE, "label": "y", "first_data": "d.csv"})
    model = tmp_path / "m.ilearner"
    schema = train(declared, None, tmp_path / "d.csv", model, tmp_path / "e.csv").schema
    later = tmp_path / "later.csv"
    for delimiter, cell in ((";", "1,000"), (";", "1.000"), (",", "1.000"), (",", '"1,000"'), ("\t", "1,000")):
        later.write_text(f"x{delimiter}y\n" + "".join(f"{cell}{delimiter}{label}\n" for label in "abab"))
        with pytest.raises(RequestRejected, match=r"Column 'x', row 1: '1[.,]000'"):
            train(declared, schema, later, tmp_path / "n.ilearner", tmp_path / "e.csv")
        with pytest.raises(RequestRejected, match=r"Column 'x', row 1: '1[.,]000'"):
            score_file(model, later, tmp_path / "s.csv")
    later.write_bytes("x;y;é\n".encode("cp1252") + b"1234,5;a;1\n900,5;b;2\n" * 4)
    scored = score_file(model, later, tmp_path / "s.csv")
    assert scored.rows == 8
    assert scored.notes[0].endswith("for example 'é'. If that is not what it says, declare 'encoding'.")
    assert scored.notes[0] in train(declared, schema, later, tmp_path / "n.ilearner", tmp_path / "e.csv").notes


def test_a_date_that_stands_for_none_ends_no_window(tmp_path: Path) -> None:
    """9999-12-31 would make every later model the older one: refused, unless it is declared to mean no value."""
    rows = "".join(f"{i},2026-01-{i % 28 + 1:02},{'ab'[i % 2]}\n" for i in range(30))
    (tmp_path / "d.csv").write_text(f"x,day,y\n{rows}7,9999-12-31,a\n")
    keys: dict[str, Any] = {"name": "P", "estimator": TREE, "label": "y", "first_data": "d.csv", "time_column": "day"}
    files = tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv"
    with pytest.raises(RequestRejected, match=r"Column 'day', the time column, has '9999-12-31'.*declare it in"):
        train(from_table("the test", tmp_path, keys), None, *files)
    keys["columns"] = {"day": {"missing": ["9999-12-31"]}}
    assert train(from_table("the test", tmp_path, keys), None, *files).window == ("2026-01-01", "2026-01-28")
