"""One graph that answers as the endpoint does, with nothing beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.exporting import comparing
from airflow_provider_azureml_classic.exporting.graph import codes_of, self_contained
from airflow_provider_azureml_classic.exporting.model import Column, Model
from airflow_provider_azureml_classic.exporting.runtime import ExportedModel
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import Scorer
from airflow_provider_azureml_classic.tables.kinds import Kind
from tests.exporting.support import NUMBERS, trained, written

MODELS = {
    "number": ("boosting-regressor", "y"),
    "class": ("sklearn.neighbors.KNeighborsClassifier", "z"),
    "label": ("sklearn.svm.LinearSVC", "z"),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Table]:
    """A folder with the training data, and its rows."""
    folder = tmp_path_factory.mktemp("rows")
    return folder, written(folder)


@pytest.fixture(scope="module", params=MODELS)
def file(request: pytest.FixtureRequest, rows: tuple[Path, Table]) -> bytes:
    """The file of a model of each kind: numbers, classes with probabilities, classes without."""
    return trained(rows[0], *MODELS[request.param])


@pytest.mark.slow
def test_the_graph_alone_answers_as_the_endpoint(file: bytes, rows: tuple[Path, Table]) -> None:
    """Texts, truth values, dates in five forms, numbers near 2⁴⁰ and missing cells go in; what an endpoint answers
    comes out, labels spelled and shifts undone.
    """
    model = Model.read(file)
    graph, table = self_contained(model), rows[1]
    session = onnxruntime.InferenceSession(graph)
    feed: dict[str, Any] = {}
    for name in (column.name for column in model.columns):
        cells = table.column(name)
        numbers = [cell if cell not in ("", "-") else "nan" for cell in cells]
        feed[name] = np.array(numbers, float) if name in NUMBERS else np.array(cells, object)
    outputs = [output.name for output in session.get_outputs()]
    assert tuple(outputs) == model.answers
    columns = dict(zip(outputs, session.run(None, feed), strict=True))
    assert {column.shape for column in columns.values()} == {(len(table.values),)}
    alone = Table(model.answers, list(zip(*columns.values(), strict=True)))
    live = Scorer.load(file).score(table)
    assert comparing.compared(model, live, alone).good
    made = comparing.made_rows(model)
    agreement = comparing.compared(model, Scorer.load(file).score(made), ExportedModel(graph).score(made))
    assert (agreement.good, agreement.rows) == (True, comparing.ROWS)


@pytest.fixture(scope="module")
def regression(rows: tuple[Path, Table]) -> Model:
    """A model of a label far from zero."""
    return Model.read(trained(rows[0], "linear-regressor", "y"))


def test_the_file_tells_what_it_is(regression: Model) -> None:
    """Whoever opens it sees experiment, window, metrics and the digest of the model file."""
    facts = {prop.key: prop.value for prop in onnx.load_from_string(self_contained(regression)).metadata_props}
    assert (facts["experiment"], facts["label"], facts["rows"]) == ("E", "y", "200")
    assert facts["model_file_sha256"] == regression.sha256
    assert json.loads(facts["metrics"])["Coefficient of Determination"] > 0


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("2020-02-29", 18321.0),
        ("1969-12-31 12:00", -0.5),
        ("2000-01-01T06:00:00Z", 10957.25),
        ("2019-02-29", None),
        ("2019-13-01", None),
        ("2019-1-1", None),
        ("29/02/2020", None),
        ("", None),
    ],
)
def test_dates(cell: str, day: float | None) -> None:
    """A date is what an endpoint reads; what is none is no value."""
    assert _days(_one_date(""), cell) == pytest.approx(np.nan if day is None else day, nan_ok=True)


def _one_date(form: str) -> Model:
    """A model that answers with the number that its only column, a date, is to it."""
    x = onnx.helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [None, 1])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None, 1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["X"], ["y"])], "g", [x], [y])
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    return Model("E", (Column("day", Kind("date", date_format=form)),), "y", made.SerializeToString(), "")


def _days(model: Model, cell: str) -> float:
    found = onnxruntime.InferenceSession(self_contained(model)).run(None, {"day": np.array([cell], object)})
    return float(found[0][0])


@pytest.mark.parametrize("form", ["%Y%m%d", "%d/%m/%Y %I:%M %p", "on %d.%m.%Y", "%d %b %Y"])
def test_a_form_of_dates_that_no_graph_reads_is_refused(form: str) -> None:
    """Naming the column and the form."""
    with pytest.raises(RequestRejected, match=f"'day' has dates of the form '{form}'"):
        self_contained(_one_date(form))


def test_spellings_of_a_category() -> None:
    """What an endpoint takes for the same category has the same code, as far as it can be listed."""
    model = replace(_one_date(""), missing=("", "?"))
    codes = codes_of(model, Column("c", Kind("text"), ("7", "Bern", "true")))
    assert {codes[text] for text in ("7", "7.0", "+7")} == {0.0}
    assert ("bern" in codes, codes["Bern"], codes["TRUE"], codes["?"]) == (False, 1.0, 2.0, -1.0)
    truths = codes_of(model, Column("c", Kind("boolean"), ("no", "yes")))
    assert {truths[text] for text in ("yes", "Yes", "true", "True", "1", "y", "ON")} == {1.0}
    assert {truths[text] for text in ("no", "FALSE", "0", "f")} == {0.0}


def test_a_cell_that_an_endpoint_refuses(regression: Model) -> None:
    """Beside other tools the cells of an export are read as an endpoint reads them."""
    exported = ExportedModel(self_contained(regression))
    row = dict.fromkeys((column.name for column in regression.columns), None)
    for name, cell in (("size", "big"), ("iso", "tomorrow"), ("city", [])):
        with pytest.raises(RequestRejected, match=f"Column '{name}', row 1"):
            exported.score(Table.of([{**row, name: cell}]))
    del row["code"]
    assert exported.score(Table.of([row])).column_names == regression.answers
    del row["size"]
    with pytest.raises(RequestRejected, match="no column 'size'"):
        exported.score(Table.of([row]))
