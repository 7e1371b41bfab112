"""The same rows as CSV, TSV and ARFF: read alike, trained alike, scored alike, and written so that others read them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from scipy.io import arff as scipy_arff

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.arff import NOMINAL, NUMERIC, STRING, ArffWriter, Attribute, read_arff
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation
from airflow_provider_azureml_classic.server.experiments import Experiment, batch, train
from airflow_provider_azureml_classic.server.experiments.batch import score_file
from airflow_provider_azureml_classic.server.experiments.datasets import census
from airflow_provider_azureml_classic.server.experiments.declaration import shipped_experiments
from airflow_provider_azureml_classic.server.experiments.frame import read_table
from airflow_provider_azureml_classic.server.experiments.ilearner import read_ilearner
from airflow_provider_azureml_classic.tables.reading import read_names, title_of
from airflow_provider_azureml_classic.tables.spelling import parse_number
from tests.support.memory import peak

EXTENSIONS = ("csv", "tsv", "arff")
Rows = Sequence[Sequence[str]]


def put(path: Path, names: Sequence[str], rows: Rows) -> Path:
    """A file of these rows in the format of its extension; ARFF declares numbers and categories."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        if path.suffix != ".arff":
            csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([names, *rows])
            return path
        columns = [Attribute(name, NUMERIC) for name in names]
        for number, name in enumerate(names):
            cells = {row[number] for row in rows} - {"?", ""}
            if any(parse_number(cell) is None for cell in cells):
                columns[number] = Attribute(name, NOMINAL, tuple(sorted(cells)))
        ArffWriter(stream, "test", columns, missing=("?",)).writerows(rows)
    return path


def read(path: Path) -> list[list[str]]:
    """Names and rows of a file."""
    with path.open(newline="", encoding="utf-8") as stream:
        if path.suffix == ".arff":
            attributes, rows = read_arff(stream)
            return [[attribute.name for attribute in attributes], *rows]
        return list(csv.reader(stream, delimiter="\t" if path.suffix == ".tsv" else ","))


def cells(path: Path) -> dict[str, list[str]]:
    """Every cell as the experiments see it."""
    table = read_table(path)
    return {name: [table.cell(name, row) for row in range(table.rows)] for name in table.names}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of the same 600 people by extension; some of their cells are missing."""
    columns = census(600)
    rows = [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]
    folder = tmp_path_factory.mktemp("people")
    return {extension: put(folder / f"people.{extension}", list(columns), rows) for extension in EXTENSIONS}


@pytest.fixture(scope="module")
def models(people: dict[str, Path]) -> dict[str, Path]:
    """The model of the census trained on each of the files, its evaluation beside it in the same format."""
    experiment, _ = shipped_experiments()
    made = {}
    for extension, path in people.items():
        made[extension] = path.with_name(f"{extension}.ilearner")
        evaluation = path.with_name(f"evaluation.{extension}")
        train(experiment, None, path, made[extension], evaluation, None, None, True)
    return made


@pytest.mark.slow
def test_a_census_trains_the_same_model(models: dict[str, Path]) -> None:
    """Graph, columns, categories, classes and metrics do not depend on the format of the training data."""
    manifests = [read_ilearner(path)[0] for path in models.values()]
    first = manifests[0]
    assert first.rows == 600
    assert {column.kind for column in first.schema.features} == {"number", "string"}
    for other in manifests[1:]:
        assert (other.sha256, other.schema, other.metrics) == (first.sha256, first.schema, first.metrics)


def test_the_evaluation_is_the_same_in_all_formats(models: dict[str, Path]) -> None:
    """The provider reads metrics, golden rows and check rows out of each; each is what its extension says."""
    texts = {one: path.with_name(f"evaluation.{one}").read_bytes() for one, path in models.items()}
    first, *others = [Evaluation.read(text) for text in texts.values()]
    assert first.metrics["Rows"] == 600
    assert first.golden is not None
    assert first.check is not None
    assert others == [first, first]
    assert b"\t" in texts["tsv"].splitlines()[0]
    assert texts["arff"].startswith(b"@relation evaluation\n")


@pytest.mark.slow
@pytest.mark.parametrize("source", EXTENSIONS)
def test_scored_rows_are_the_same_in_all_formats(models, people, tmp_path: Path, source: str) -> None:
    """Whatever is read and whatever is written, the same cells come out; ARFF writes a missing one its own way."""
    expected = None
    for target in EXTENSIONS:
        path = tmp_path / f"scored.{target}"
        assert score_file(models["csv"], people[source], path, ("age", "occupation")).rows == 600
        found = read(path)
        if target != "arff":
            found = [["" if cell == "?" else cell for cell in row] for row in found]
        assert found[0][:3] == ["age", "occupation", "Scored Labels"]
        expected = expected or found
        assert found == expected


def test_scored_rows_are_arff_that_scipy_reads(models, people, tmp_path: Path) -> None:
    """Classes and repeated texts are nominal, numbers numeric, and the values are those of the CSV."""
    for target in ("csv", "arff"):
        score_file(models["csv"], people["csv"], tmp_path / f"scored.{target}", ("*",))
    data, meta = scipy_arff.loadarff(tmp_path / "scored.arff")
    names, *rows = read(tmp_path / "scored.csv")
    assert meta.names() == names
    kinds = dict(zip(names, meta.types(), strict=True))
    assert meta["Scored Labels"] == ("nominal", ("<=50K", ">50K"))
    assert (kinds["age"], kinds["occupation"], kinds["Scored Probabilities"]) == ("numeric", "nominal", "numeric")
    for name in ("Scored Labels", "occupation"):
        assert [row[name].decode() for row in data] == [row[names.index(name)] for row in rows]
    position = names.index("Scored Probabilities")
    assert [row["Scored Probabilities"] for row in data] == [float(row[position]) for row in rows]


@pytest.mark.slow
def test_many_different_texts_are_no_categories(models, people, tmp_path: Path, monkeypatch) -> None:
    """A column of identifiers is a string column, instead of a declaration with all of them."""
    monkeypatch.setattr(batch, "_MAX_NOMINAL", 8)
    score_file(models["csv"], people["csv"], tmp_path / "scored.arff", ("education", "sex"))
    with (tmp_path / "scored.arff").open(newline="") as stream:
        education, sex, *_ = read_arff(stream)[0]
    assert education == Attribute("education", STRING)
    assert (sex.kind, sorted(sex.values)) == (NOMINAL, ["Female", "Male"])


def test_numbers_of_a_file_with_decimal_commas(tmp_path: Path) -> None:
    """What was written with a comma is a number of ARFF, which knows points only; a label column is none."""
    lines = "\n".join(f"{number},5;{2 * number + 1}" for number in range(30))
    (tmp_path / "d.csv").write_text(f"x;y\n{lines}\n")
    declared = Experiment(name="L", estimator="linear-regressor", label="y", first_data="d.csv", directory=tmp_path)
    train(declared, None, tmp_path / "d.csv", tmp_path / "m.ilearner", tmp_path / "e.csv")
    score_file(tmp_path / "m.ilearner", tmp_path / "d.csv", tmp_path / "s.arff", ("x",))
    data, meta = scipy_arff.loadarff(tmp_path / "s.arff")
    assert meta.types() == ["numeric", "numeric"]
    assert data[3]["x"] == 3.5
    assert data[3]["Scored Labels"] == pytest.approx(7, abs=1)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("t.tsv", "a,b\tc\n1,5\tx\n", {"a,b": ["1,5"], "c": ["x"]}),
        ("t.TSV", 'a\tb\n"x\ty"\t2\n', {"a": ["x\ty"], "b": ["2"]}),
        ("t.tsv", "a;b\n1;2\n", {"a": ["1"], "b": ["2"]}),
        ("t.csv", "a\tb\n1\t2\n", {"a": ["1"], "b": ["2"]}),
        ("t.data", "a,b\n1,2\n", {"a": ["1"], "b": ["2"]}),
        ("t.arff", "@relation r\n@attribute 1 numeric\n@data\n5\n", {"1": ["5"]}),
        ("t.ARFF", "\ufeff@attribute größe {a,'b c'}\r\n@data\r\n'b c'\r\n?\r\n", {"größe": ["b c", ""]}),
        (
            "t.arff",
            "@attribute d date\n@attribute s string\n@data\n2011-01-01,' x '\n",
            {"d": ["2011-01-01"], "s": ["x"]},
        ),
        (
            "t.arff",
            "@attribute n numeric\n@attribute c {a,b}\n@data\n{1 b}\n{0 7}\n",
            {"n": ["0", "7"], "c": ["b", "a"]},
        ),
    ],
    ids=["commas", "quotes", "semicolons", "tabs", "other", "number", "bom", "texts", "sparse"],
)
def test_the_extension_says_how_a_file_is_read(tmp_path: Path, name: str, text: str, expected) -> None:
    """TSV by tabs if it has any; ARFF as declared; what else it may be called is looked at, as ever."""
    (tmp_path / name).write_bytes(text.encode())
    assert cells(tmp_path / name) == expected
    assert read_names(tmp_path / name, title_of(name)) == tuple(expected)


def test_arff_in_the_encoding_of_an_old_program(tmp_path: Path) -> None:
    """Text that is no UTF-8 is read as Latin-1, as CSV is."""
    (tmp_path / "t.arff").write_bytes("@attribute a string\n@data\nZürich\n".encode("latin-1"))
    assert cells(tmp_path / "t.arff") == {"a": ["Zürich"]}


DECLARED = "@relation r\n@attribute age numeric\n@attribute 'marital status' {single,'not single'}\n@data\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"The ARFF cannot be read: There is no @data"),
        ("age,y\n1,2\n", r"The ARFF cannot be read: Line 1 is 'age,y'"),
        (DECLARED, "The ARFF has @attribute lines but no data rows"),
        (f"{DECLARED}1\n", "Data row 1 has 1 cells; the ARFF declares 2"),
        (f"{DECLARED}1,single\n2,'widowed'\n", r"'marital status', row 2: 'widowed'.* declares the column as nominal"),
        (f"{DECLARED}old,single\n", r"'age', row 1: 'old'.* as numeric; expected a number"),
        (f"{DECLARED}1,'single\n", "The ARFF cannot be read: Line 5"),
        (
            "@attribute a string\n@attribute 'a ' string\n@data\nx,y\n",
            "different names: what it declares has 'a' twice",
        ),
        ("@attribute b string\n@data\nx\n", "expected the columns age. What it declares is: b"),
    ],
    ids=["empty", "csv", "no rows", "short", "value", "number", "quote", "twice", "columns"],
)
def test_what_is_wrong_with_arff_is_told(tmp_path: Path, text: str, said: str) -> None:
    """The message names the line, or the column and the row, and what was expected."""
    (tmp_path / "t.arff").write_text(text)
    with pytest.raises(RequestRejected, match=said) as caught:
        read_table(tmp_path / "t.arff", expected=("age",) if "a string" not in text else ())
    assert caught.value.detail_code == "InputParseError"


@pytest.mark.slow
def test_memory_of_reading_does_not_depend_on_the_format(tmp_path: Path) -> None:
    """Of ARFF no more is held than of CSV: the different cells, and a number for each."""
    rows = [[str(number % 97), ("red", "green")[number % 2], str(number % 13)] for number in range(120_000)]
    peaks = {}
    for extension in ("csv", "arff"):
        path = put(tmp_path / f"t.{extension}", ["a", "b", "c"], rows)
        with peak() as so_far:
            assert read_table(path).rows == 120_000
            peaks[extension] = so_far()
    assert peaks["arff"] < 1.5 * peaks["csv"]


@pytest.mark.slow
def test_wide_sparse_rows_are_taken_a_few_at_a_time(tmp_path: Path) -> None:
    """Two bytes a row that stand for thousands of cells are not all unfolded at once."""
    width, rows = 5_000, 2_000
    declared = "".join(f"@attribute c{number} numeric\n" for number in range(width))
    (tmp_path / "t.arff").write_text(f"{declared}@data\n" + "{}\n" * rows)
    with peak() as so_far:
        assert read_table(tmp_path / "t.arff", wanted={"c1"}).rows == rows
        assert so_far() < 40_000_000  # all at once they take twice as much
