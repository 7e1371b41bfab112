"""Whole files as the rows of a call, and files in blocks: what is decided for a file is decided for all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer, batch, train
from airflow_provider_azureml_classic.server.experiments.declaration import from_table
from airflow_provider_azureml_classic.tables import delimited, kinds, reading
from airflow_provider_azureml_classic.tables.kinds import NUMBER, TEXT, Kind
from airflow_provider_azureml_classic.tables.rows import parse_rows
from tests.support.memory import peak


def test_numbers_get_a_point_and_texts_stay() -> None:
    """A cell 1,5 is a number in a column of numbers only; what has no value is empty."""
    table = parse_rows(b"size;w\n1,5;0,25\nXL;\nS;1\n", "ask.csv")
    assert table == Table(("size", "w"), [["1,5", "0.25"], ["XL", ""], ["S", "1"]])


def test_the_message_begins_with_the_file() -> None:
    """As other messages about files do."""
    with pytest.raises(RequestRejected, match=r"^ask\.csv: Data row 1 has 1 cell"):
        parse_rows(b"a,b\n1\n", "ask.csv")


def test_the_decimal_sign_is_that_of_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first decimals may come late in a file."""
    monkeypatch.setattr(delimited, "BLOCK", 200)
    text = "a;b\n" + "1;x\n" * 200 + "2,5;x\n" * 200
    blocks = list(reading.blocks(text.encode(), "CSV"))
    assert len(blocks) > 2
    assert kinds.file_decimal(blocks, {"a": Kind(NUMBER), "b": Kind(TEXT)}) == ","
    assert kinds.file_decimal(blocks[:1], {"a": Kind(NUMBER), "b": Kind(TEXT)}) == "."


@pytest.mark.slow
def test_a_file_is_scored_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the answers of its rows, in order; ten times the rows need no more memory."""
    (tmp_path / "d.csv").write_text("a;c;y\n" + "".join(f"{i},5;{'xy'[i % 2]};{i}\n" for i in range(50)))
    keys = {"name": "B", "estimator": "sklearn.tree.DecisionTreeRegressor", "label": "y", "first_data": "d.csv"}
    train(from_table("the test", tmp_path, keys), None, tmp_path / "d.csv", model := tmp_path / "m", tmp_path / "e.csv")
    monkeypatch.setattr(delimited, "BLOCK", 1 << 14)
    monkeypatch.setattr(batch, "_CHUNK", 1000)
    peaks = []
    for rows in (200, 8_000, 80_000):
        lines = (f"{i % 50};x\n" if i < rows / 2 else f"{i % 50},5;y\n" for i in range(rows))
        (tmp_path / "ask.csv").write_text("a;c\n" + "".join(lines))
        with peak() as so_far:
            assert batch.score_file(model, tmp_path / "ask.csv", tmp_path / "out.csv", ("c",)).rows == rows
            peaks.append(so_far())
    assert peaks[2] < 1.5 * peaks[1]
    first, last = Scorer.load(model).score(Table(("a", "c"), [[0, "x"], [49.5, "y"]])).column("Scored Labels")
    scored = (tmp_path / "out.csv").read_text().splitlines()
    assert (scored[1], scored[-1]) == (f"x,{first}", f"y,{last}")
