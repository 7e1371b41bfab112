"""Scoring: what a client may send, what it is answered, and what it is told."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol import model_file
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import (
    Experiment,
    Scorer,
    conversion,
    read_ilearner,
    train,
    write_ilearner,
)

NAMES = ("age", "city", "member")
#: The label is yes from age 50 on, in Bern from 20 on, and for members always.
ROWS = [(a, c, m) for a in range(0, 100, 5) for c in ("Bern", "Chur", "7") for m in ("true", "false")]


def train_small(folder: Path, label: str, estimator: str) -> Path:
    """A small model over the three columns."""
    lines = [",".join((*NAMES, "y"))]
    for age, city, member in ROWS:
        yes = age >= 50 or (city == "Bern" and age >= 20) or member == "true"
        value = {"class": "yes" if yes else "no", "number": str(age / 10 + yes)}[label]
        lines += [f"{age},{city},{member},{value}"] * 2
    (folder / "d.csv").write_text("\n".join(lines))
    experiment = Experiment(
        name="S", estimator=estimator, label="y", first_data="d.csv", directory=folder, optional=("member",)
    )
    train(experiment, None, folder / "d.csv", folder / "m.ilearner", folder / "e.csv")
    return folder / "m.ilearner"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The file of a two-class model."""
    return train_small(tmp_path_factory.mktemp("class"), "class", "sklearn.tree.DecisionTreeClassifier")


@pytest.fixture(scope="module")
def scorer(model):
    """A two-class model."""
    return Scorer.load(model)


@pytest.fixture(scope="module")
def regressor(tmp_path_factory):
    """A regression model."""
    return Scorer.load(train_small(tmp_path_factory.mktemp("number"), "number", "linear-regressor"))


def label(scorer: Scorer, *row: object) -> str:
    """The label of one row, the same whether it is sent alone or among many."""
    alone = scorer.score(Table(NAMES, [list(row)])).column("Scored Labels")
    many = scorer.score(Table(NAMES, [list(row)] * 40)).column("Scored Labels")
    assert many == alone * 40
    return alone[0]


def test_columns_of_two_classes(scorer):
    """Two classes are answered with the label, the probability of the positive class, and one of each class."""
    answer = scorer.score(Table(NAMES, [[70, "Chur", "false"]]))
    assert answer.column_names == (
        "Scored Labels",
        "Scored Probabilities",
        'Scored Probabilities for Class "no"',
        'Scored Probabilities for Class "yes"',
    )
    assert answer.column_types == ("String", "Double", "Double", "Double")
    assert answer.values == [("yes", "1.0", "0.0", "1.0")]


def test_columns_of_a_regression(regressor):
    """A regression is answered with one number, in the shortest form that is exact."""
    answer = regressor.score(Table(NAMES, [[70, "Chur", "false"]]))
    assert (answer.column_names, answer.column_types) == (("Scored Labels",), ("Double",))
    ((cell,),) = answer.values
    assert len(cell) <= 10
    assert float(cell) == pytest.approx(8, abs=0.7)


def test_columns_for_documents(scorer, regressor):
    """The inputs and outputs that a swagger document lists, with their types."""
    assert scorer.columns().inputs == (("age", "Double"), ("city", "String"), ("member", "String"))
    assert scorer.columns().outputs[:2] == (("Scored Labels", "String"), ("Scored Probabilities", "Double"))
    assert regressor.columns().outputs == (("Scored Labels", "Double"),)


@pytest.mark.parametrize("age", [70, 70.0, "70", " 70.0 ", "7e1"])
def test_a_number_may_be_sent_in_any_form(scorer, age):
    """Numbers and texts that write them mean the same."""
    assert label(scorer, age, "Chur", "false") == "yes"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((30, "Bern", "false"), "yes"),
        ((30, " Bern ", "false"), "yes"),
        ((30, "Chur", "false"), "no"),
        ((30, "Chur", True), "yes"),
        ((30, "Chur", False), "no"),
        ((30, 7, "true"), "yes"),
        ((30, 7.0, "true"), "yes"),
    ],
)
def test_a_text_may_be_sent_in_any_form(scorer, row, expected):
    """Blanks around a text, a number or a truth value where texts were trained still find their category."""
    assert label(scorer, *row) == expected


def test_a_number_finds_the_category_that_it_writes(scorer):
    """7, 7.0 and "7" are encoded as the same category."""
    plan = scorer._plan(NAMES)
    encoded = scorer._encode(plan, [[1, "7", "true"], [1, 7, True], [1, 7.0, "true"]])
    assert (encoded == encoded[0]).all()


@pytest.mark.parametrize("nothing", [None, "", "?", "NaN", float("nan")])
def test_nothing_is_missing(scorer, nothing):
    """Null, the empty text and the missing tokens are encoded alike, in both kinds of columns."""
    for count in (1, 40):
        encoded = scorer._encode(scorer._plan(NAMES), [[nothing, nothing, nothing]] * count)
        assert str(encoded[0].tolist()) == "[nan, -1.0, -1.0]"


def test_an_unknown_text_counts_as_missing(regressor):
    """A category that training did not see is answered, as a missing one is."""
    unknown, missing = regressor.score(Table(NAMES, [[30, "Atlantis", "true"], [30, None, "true"]])).values
    assert unknown == missing


def test_order_extra_columns_and_label_do_not_matter(scorer):
    """Columns are found by name; the label and unknown columns are ignored."""
    plain = scorer.score(Table(NAMES, [[30, "Bern", "false"]]))
    mixed = scorer.score(Table(("y", "city", "zip", "member", "age"), [["no", "Bern", 1, "false", 30]]))
    assert mixed == plain


def test_an_optional_column_may_be_left_out_of_a_request(scorer):
    """Absent and null are the same for an optional feature, for one row and for many."""
    for count in (1, 40):
        absent = scorer.score(Table(("age", "city"), [[30, "Bern"]] * count))
        assert absent == scorer.score(Table(NAMES, [[30, "Bern", None]] * count))


def test_a_missing_column_is_named(scorer):
    """A request without a feature is refused with its name and the list of what is expected."""
    with pytest.raises(RequestRejected, match=r"no column 'city'; expected age, city\. Found: age, City") as caught:
        scorer.score(Table(("age", "City"), [[1, "Bern"]]))
    assert caught.value.detail_code == "InputMismatchError"


@pytest.mark.parametrize("cell", ["old", "1_000", "inf", float("inf"), 10**400, 1e300, [1], {}, "1,5"])
@pytest.mark.parametrize("count", [3, 40])
def test_a_wrong_number_is_named_with_its_row(scorer, cell, count):
    """What is no number in a number column is refused with column and row, whether few rows are sent or many."""
    rows: list[list[object]] = [[1, "Bern", "true"] for _ in range(count)]
    rows[1][0] = cell
    with pytest.raises(RequestRejected, match="Column 'age', row 2: ") as caught:
        scorer.score(Table(NAMES, rows))
    assert caught.value.detail_code == "InputParseError"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("count", [1, 40])
def test_a_list_where_a_text_is_expected_is_named(scorer, count):
    """A nested value in a text column is refused with column and row."""
    rows = [[1, "Bern", "true"]] * (count - 1) + [[1, ["Bern"], "true"]]
    with pytest.raises(RequestRejected, match=f"Column 'city', row {count}: list"):
        scorer.score(Table(NAMES, rows))


def test_passthrough_columns_come_first_as_strings(scorer):
    """Columns to repeat stand before the answer, in the order sent; a star means all."""
    sent = Table(("id", *NAMES), [[17, 30, "Bern", None]])
    some = scorer.score(sent, ("member", "id"))
    assert some.column_names[:3] == ("id", "member", "Scored Labels")
    assert some.values[0][:3] == ("17", None, "yes")
    assert some.column_types[:3] == ("String", "String", "String")
    every = scorer.score(sent, ("*",))
    assert every.column_names[:5] == ("id", "age", "city", "member", "Scored Labels")
    assert every.column_types[1] == "Double"


def test_a_passthrough_column_never_hides_an_answer(scorer):
    """An input column that is named like an output is not repeated."""
    answer = scorer.score(Table(("Scored Labels", *NAMES), [["mine", 70, "Chur", "false"]]), ("*",))
    assert answer.column_names.count("Scored Labels") == 1
    assert answer.column("Scored Labels") == ["yes"]


def test_no_rows_give_no_rows(scorer):
    """An empty table is answered with an empty table that has the same columns."""
    answer = scorer.score(Table(NAMES, []), ("age",))
    assert answer.values == []
    assert answer.column_names[:2] == ("age", "Scored Labels")


def test_many_threads_may_use_one_scorer(scorer):
    """Requests that run at the same time do not disturb each other."""
    rows = [[age, "Chur", "false"] for age in range(0, 100, 5)] * 5

    def ask(row: list[object]) -> str:
        return scorer.score(Table(NAMES, [row])).values[0][0]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, rows)) == ["yes" if row[0] >= 50 else "no" for row in rows]


def test_many_orders_of_columns_do_not_grow_the_scorer(scorer):
    """What is remembered about requests stays small whatever clients send."""
    for number in range(200):
        scorer.score(Table((*NAMES, f"extra{number}"), [[1, "Bern", "true", 0]]))
    assert len(scorer._plans) <= 64


def test_digest_is_that_of_the_file(scorer, model):
    """The digest identifies the model file."""
    assert scorer.digest == hashlib.sha256(model.read_bytes()).hexdigest()


def rewritten(model: Path, folder: Path, graph: bytes | None = None, **changes: object) -> Path:
    """The model with another graph or manifest, its checksum in order."""
    manifest, old = read_ilearner(model)
    graph = old if graph is None else graph
    changes = {"sha256": hashlib.sha256(graph).hexdigest(), **changes}
    write_ilearner(folder / "x.ilearner", graph, replace(manifest, **changes))
    return folder / "x.ilearner"


def test_a_graph_that_is_none_is_refused(model, tmp_path):
    """A member that is not ONNX is told, not crashed on."""
    with pytest.raises(RequestRejected, match="cannot be used") as caught:
        Scorer.load(rewritten(model, tmp_path, b"not a graph"))
    assert caught.value.detail_code == "ModelInvalid"


def test_a_manifest_of_another_graph_is_refused(model, scorer, tmp_path):
    """Features or classes that do not fit the graph are found when the model is loaded, before it is used."""
    schema = scorer.manifest.schema
    for wrong in (
        {"schema": replace(schema, features=schema.features[:2])},
        {"schema": replace(schema, classes=("a", "b", "c"))},
        {"positive": "perhaps"},
        {"task": "regression", "schema": replace(schema, task="regression")},
    ):
        with pytest.raises(RequestRejected, match="cannot be used"):
            Scorer.load(rewritten(model, tmp_path, **wrong))


def test_a_graph_must_not_name_files(model, tmp_path):
    """A model from elsewhere cannot make the server read a file of its own."""
    import onnx
    from onnx import TensorProto, helper

    (tmp_path / "secret").write_bytes(bytes(12))
    tensor = TensorProto(name="W", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    x = helper.make_tensor_value_info(conversion.INPUT, TensorProto.FLOAT, [None, 3])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph([helper.make_node("Add", [conversion.INPUT, "W"], ["Y"])], "g", [x], [y], [tensor])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    assert onnx.load_from_string(content).graph.initializer[0].external_data
    with pytest.raises(RequestRejected, match="refers to files outside"):
        Scorer.load(rewritten(model, tmp_path, content))


@pytest.mark.slow
def test_a_usual_model_is_loaded_without_the_onnx_package(model):
    """The library is needed to read a suspicious graph; a server that scores does not carry it."""
    code = (
        "import sys; from pathlib import Path\n"
        "from airflow_provider_azureml_classic.server.experiments.scorer import Scorer\n"
        "Scorer.load(Path(sys.argv[1])); print('onnx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_model_without_probabilities_gives_labels_only(tmp_path):
    """An estimator that knows no probabilities is answered with the label alone."""
    path = train_small(tmp_path, "class", "sklearn.linear_model.RidgeClassifier")
    answer = Scorer.load(path).score(Table(NAMES, [[90, "Bern", "true"]]))
    assert (answer.column_names, answer.values) == (("Scored Labels",), [("yes",)])


def test_answers_are_json(scorer):
    """Every cell of an answer is a plain string."""
    answer = scorer.score(Table(NAMES, [[1, "Bern", "true"]] * 40), ("*",))
    assert all(cell.__class__ is str for row in answer.values for cell in row)
    json.dumps(answer.to_wire())


def test_a_model_that_is_no_model_is_refused_on_load(tmp_path):
    """Loading goes through the safe reader."""
    (tmp_path / "x").write_bytes(b"a,b\n1,2\n")
    with pytest.raises(RequestRejected, match="a CSV"):
        Scorer.load(tmp_path / "x")
    assert model_file.FILE_LIMIT == 256 << 20
