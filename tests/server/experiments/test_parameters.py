"""Web service parameters and several inputs: declared in TOML, given with a job or a call, or refused by name."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.experiments import load_experiments
from tests.support.service import Clock, Service, line

TOML = """\
[[experiment]]
name = "Line"
estimator = "linear-regressor"
label = "y"
first_data = "line.csv"
features = ["x"]

[experiment.parameters]
Alpha = { sets = "estimator.alpha", default = 1.0, minimum = 0 }
City = { sets = "rows.city", default = "" }
URI = { sets = "data" }

[[experiment]]
name = "Other Line"
estimator = "linear-classifier"
label = "side"
features = ["x"]
first_data = "sides.arff"
inputs = { rows = "train", more = "train", test = "evaluate" }

[experiment.parameters]
Strength = { sets = "estimator.C", type = "number" }
Threshold = { sets = "threshold", default = 0.5, description = "how sure to be" }
"""


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two experiments with parameters are set up."""
    folder = tmp_path_factory.mktemp("parameters")
    (folder / "line.csv").write_text(line(2))
    declared = "@attribute x real\n@attribute side {high,low}\n@data\n"
    (folder / "sides.arff").write_text(declared + sides().partition("\n")[2])
    (folder / "experiments.toml").write_text(TOML)
    return folder


@pytest.fixture
def house(declared: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service of these experiments; its data directory is shared by the tests of this module."""
    running = Service(declared / "data", clock, monkeypatch)
    yield running
    running.close()


def sides(zero: float = 1.0) -> str:
    """CSV of the side of ``zero`` on which ``x`` is."""
    return "x,side\n" + "".join(f"{x / 10},{'high' if x / 10 > zero else 'low'}\n" for x in range(21))


def endpoint_of(house: Service, service: str) -> Endpoint:
    """The default endpoint of a web service."""
    return house.client.get_endpoint(house.client.find_web_service(service).id, "default")


def submitted(house: Service, endpoint: Endpoint, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and decoded answer of a submission."""
    response = house.ask("POST", house.api_path(endpoint, "/jobs"), body, key=endpoint.primary_key)
    return response.status, json.loads(response.body)


def evaluation(house: Service, endpoint: Endpoint, body: dict[str, Any]) -> dict[str, str]:
    """The evaluation of a job that is submitted, started and finished."""
    status, job_id = submitted(house, endpoint, body)
    assert status == 200, job_id
    house.client.start_job(endpoint, job_id)
    job = house.ended(endpoint, job_id)
    assert job.status is JobStatus.FINISHED, job.details
    (row,) = csv.DictReader(io.StringIO(house.read_blob(job.results["output2"].relative_location).decode()))
    assert job.samples is not None
    samples = json.loads(house.read_blob(job.samples.relative_location))
    return {**row, "Checked": str(len(samples["Check Rows"]["Labels"]))}


def refusal(house: Service, endpoint: Endpoint, body: dict[str, Any]) -> tuple[str, str, str]:
    """Detail code, target and message of a refused submission."""
    status, answer = submitted(house, endpoint, body)
    assert status == 400, answer
    (detail,) = answer["error"]["details"]
    return detail["code"], detail.get("target", ""), detail["message"]


GIVEN = {"RelativeLocation": "data/cities.csv"}
CITIES = "x,y,city\n" + "".join(
    f"{x},{x * (3 if city == 'Ulm' else 7)},{city}\n" for x in range(9) for city in ("Ulm", "Bad")
)


@pytest.fixture
def cities(house: Service) -> None:
    """Data of two slopes, told apart by a column."""
    house.put_blob("data/cities.csv", CITIES)


@pytest.mark.slow
def test_a_parameter_chooses_rows(house: Service, cities: None) -> None:
    """Only the rows of the one city count; without it all do, by the default."""
    trainer = endpoint_of(house, "Line")
    some = evaluation(house, trainer, {"Input": GIVEN, "GlobalParameters": {"City": "Ulm"}})
    assert (some["Rows"], evaluation(house, trainer, {"Input": GIVEN})["Rows"]) == ("9", "18")


@pytest.mark.slow
def test_a_parameter_reaches_the_estimator(house: Service, cities: None) -> None:
    """A heavy penalty makes the slope flat, so the errors are larger; a number may be written as text."""
    trainer = endpoint_of(house, "Line")
    body = {"Input": GIVEN, "GlobalParameters": {"City": "Ulm", "Alpha": "1e9"}}
    flat = float(evaluation(house, trainer, body)["Mean Absolute Error"])
    body["GlobalParameters"]["Alpha"] = 0
    assert flat > 1 > float(evaluation(house, trainer, body)["Mean Absolute Error"])


@pytest.mark.parametrize("kind", ["path", "signed", "unsigned"])
def test_the_data_may_be_named_by_a_parameter(house: Service, cities: None, kind: str) -> None:
    """As with Import Data: an address with or without a token, or a path in the own store, and no input."""
    base = house.settings.account.endpoint
    signed = house.signed("data/cities.csv")
    address = {"path": "data/cities.csv", "signed": signed.url, "unsigned": f"{base}/data/cities.csv"}[kind]
    trainer = endpoint_of(house, "Line")
    assert evaluation(house, trainer, {"GlobalParameters": {"URI": address}})["Rows"] == "18"


@pytest.mark.slow
def test_data_named_by_a_parameter_are_read_as_their_name_says(house: Service) -> None:
    """Behind an address, too, ARFF is read as ARFF, and what has no name of data as CSV."""
    declared = "@attribute x real\n@attribute y real\n@attribute city {Ulm,Bad}\n@data\n"
    house.put_blob("data/cities.arff", declared + CITIES.partition("\n")[2])
    house.put_blob("data/cities", CITIES)
    trainer = endpoint_of(house, "Line")
    for path in ("data/cities.arff", "data/cities"):
        body = {"GlobalParameters": {"URI": path, "City": "Ulm"}}
        assert evaluation(house, trainer, body)["Rows"] == "9"


@pytest.mark.parametrize("extension", [".tsv", ".arff"])
def test_further_rows_and_rows_for_the_metrics_in_other_formats(house: Service, extension: str) -> None:
    """Each input is read by its own extension; they need not have the same."""
    declared = "@attribute x real\n@attribute side {high,low}\n@data\n"
    rows = sides().partition("\n")[2]
    text = declared + rows if extension == ".arff" else sides().replace(",", "\t")
    house.put_blob(f"data/more{extension}", text)
    house.put_blob("data/sides.csv", sides())
    other = {"RelativeLocation": f"data/more{extension}"}
    body = {
        "Inputs": {"rows": {"RelativeLocation": "data/sides.csv"}, "more": other, "test": other},
        "GlobalParameters": {"Strength": 1},
    }
    found = evaluation(house, endpoint_of(house, "Other Line"), body)
    assert (found["Rows"], found["Checked"]) == ("42", "21")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ({"GlobalParameters": {"URI": "https://elsewhere.test/data/x.csv"}}, "LocationNotAllowed", "elsewhere.test"),
        ({"GlobalParameters": {"URI": "ftp://allowed.test/data/x.csv"}}, "InvalidBlob", "http"),
        ({"GlobalParameters": {"URI": ""}}, "BadParameterValue", "URI"),
        ({"GlobalParameters": {"URI": 5}}, "InputBlobRelativeLocationInvalid", "container/path"),
        ({"Input": GIVEN, "GlobalParameters": {"URI": "data/x.csv"}}, "BatchJobInputsTooManySpecified", "URI"),
        ({}, "BatchJobInputsNotSpecified", "URI"),
        ({"Input": GIVEN, "GlobalParameters": {"uri": "data/x.csv"}}, "UnexpectedParameter", "Alpha, City, URI"),
        ({"Input": GIVEN, "GlobalParameters": {"Alpha": "much"}}, "BadParameterValue", "'much'"),
        ({"Input": GIVEN, "GlobalParameters": {"Alpha": -1}}, "BadParameterValue", "from 0"),
        ({"Input": GIVEN, "GlobalParameters": {"Alpha": True}}, "BadParameterValue", "a number"),
        ({"Input": GIVEN, "GlobalParameters": {"Alpha": [1]}}, "BadParameterValue", "Alpha"),
        ({"Input": GIVEN, "GlobalParameters": {"City": {}}}, "BadParameterValue", "a text"),
        ({"Input": GIVEN, "GlobalParameters": []}, None, ""),
        ({"Input": GIVEN, "GlobalParameters": "x"}, "RequestBodyInvalid", "GlobalParameters"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    house: Service, cities: None, body: dict[str, Any], code: str | None, words: str
) -> None:
    """The published code, and a message that says what is allowed; an address passes the checks of an input."""
    trainer = endpoint_of(house, "Line")
    if code is None:
        assert submitted(house, trainer, body)[0] == 200
        return
    found, _, message = refusal(house, trainer, body)
    assert (found, words in message) == (code, True), message


def test_an_address_is_no_secret_of_the_job(house: Service, cities: None) -> None:
    """A token in a parameter is neither in the log nor in an error."""
    trainer, signed = endpoint_of(house, "Line"), house.signed("data/cities.csv")
    _, job_id = submitted(house, trainer, {"GlobalParameters": {"URI": signed.url}})
    signature = signed.sas_token.rpartition("sig=")[2]
    log = house.ask("GET", house.api_path(trainer, f"/jobs/{job_id}/log"), key=trainer.primary_key).body
    assert b"data/cities.csv" in log
    assert signature.encode() not in log
    bad = signed.url.replace("sig=", "sig=x")
    _, _, message = refusal(house, trainer, {"GlobalParameters": {"URI": bad}})
    assert signature not in message


# -- several inputs --------------------------------------------------------------------------------------------------


def inputs(house: Service, **content: str) -> dict[str, Any]:
    """A submission's inputs with this content."""
    return {name: house.put_blob(f"data/{name}.csv", text).to_wire() for name, text in content.items()}


def test_several_inputs_are_one_table_and_an_evaluation(house: Service) -> None:
    """Two tables to train on count together; the metrics are those on the third, which the model gets all wrong."""
    trainer = endpoint_of(house, "Other Line")
    swapped = "x,side\n0.1,high\n0.2,high\n1.8,low\n1.9,low\n"
    given = inputs(house, rows=sides(), more=sides(), test=swapped)
    row = evaluation(house, trainer, {"Inputs": given, "GlobalParameters": {"Strength": 100}})
    assert (row["Rows"], float(row["Accuracy"]), row["Checked"]) == ("42", 0, "4")


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda given: given.pop("more"), "BatchJobInputsNotSpecified", "the input more"),
        (lambda given: given.update(input1=given["rows"]), "InvalidInputNames", "rows, more, test"),
        (lambda given: given.update(Rows=given.pop("rows")), "InvalidInputNames", "'Rows'"),
    ],
    ids=["missing", "one too many", "case"],
)
def test_inputs_go_by_their_names(house: Service, change: Callable[[Any], Any], code: str, words: str) -> None:
    """Each declared one must be there, and no other."""
    given = inputs(house, rows=sides(), more=sides(), test=sides())
    change(given)
    trainer = endpoint_of(house, "Other Line")
    found, _, message = refusal(house, trainer, {"Inputs": given, "GlobalParameters": {"Strength": 1}})
    assert (found, words in message) == (code, True), message


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("more", "z,side\n1,high\n2,low\n", "Table 2 has no column 'x'"),
        ("test", "x,side\n1,high\n2,nowhere\n", "'nowhere'"),
        ("test", "x\n1\n", "'side'"),
    ],
)
def test_tables_that_do_not_fit_fail_the_job(house: Service, name: str, content: str, words: str) -> None:
    """``Details`` say which column or label is at fault."""
    given = inputs(house, **{"rows": sides(), "more": sides(), "test": sides(), name: content})
    trainer = endpoint_of(house, "Other Line")
    _, job_id = submitted(house, trainer, {"Inputs": given, "GlobalParameters": {"Strength": 1}})
    house.client.start_job(trainer, job_id)
    assert words in (house.ended(trainer, job_id).details or "")


def test_a_parameter_without_default_must_be_given(house: Service) -> None:
    """The published code, and what it is for."""
    given = inputs(house, rows=sides(), more=sides(), test=sides())
    code, target, message = refusal(house, endpoint_of(house, "Other Line"), {"Inputs": given})
    assert (code, target, "C of the estimator" in message) == ("MissingRequiredGlobalParameters", "Strength", True)


# -- scoring ---------------------------------------------------------------------------------------------------------


def labels(house: Service, **parameters: Any) -> list[str]:
    """The label of a row in the middle, scored at once and as a batch."""
    scorer = endpoint_of(house, "Other Line [predictive exp.]")
    body = {"Inputs": {"input1": [{"x": 1.0}]}, "GlobalParameters": parameters}
    response = house.ask("POST", house.api_path(scorer, "/execute"), body, key=scorer.primary_key)
    assert response.status == 200, response.body
    at_once = json.loads(response.body)["Results"]["output1"]["value"]["Values"][0][0]
    body = {"Input": house.put_blob("data/one.csv", "x\n1.0\n").to_wire(), "GlobalParameters": parameters}
    _, job_id = submitted(house, scorer, body)
    house.client.start_job(scorer, job_id)
    place = house.ended(scorer, job_id).results["output1"].relative_location
    (row,) = csv.DictReader(io.StringIO(house.read_blob(place).decode()))
    return [at_once, row["Scored Labels"]]


def test_a_threshold_moves_the_label(house: Service) -> None:
    """At once and as a batch; the positive class is the last one."""
    assert labels(house, Threshold=0) == ["low", "low"]
    assert labels(house, Threshold="1") == ["high", "high"]


def test_scoring_refuses_what_it_does_not_have(house: Service) -> None:
    """Parameters of the training service, wrong values, and none at all where none is declared."""
    for service, given, code in (
        ("Other Line [predictive exp.]", {"Strength": 1}, "UnexpectedParameter"),
        ("Other Line [predictive exp.]", {"Threshold": 1.5}, "BadParameterValue"),
        ("Line [predictive exp.]", {"Alpha": 1}, "UnexpectedParameter"),
    ):
        scorer = endpoint_of(house, service)
        body = {"Inputs": {"input1": [{"x": 1}]}, "GlobalParameters": given}
        response = house.ask("POST", house.api_path(scorer, "/execute"), body, key=scorer.primary_key)
        (detail,) = json.loads(response.body)["error"]["details"]
        assert (response.status, detail["code"], detail["target"]) == (400, code, next(iter(given)))


def test_pages_and_documents_describe_them(house: Service) -> None:
    """Name, type, default and meaning; what is required is required in the API document, too."""
    trainer, scorer = endpoint_of(house, "Other Line"), endpoint_of(house, "Other Line [predictive exp.]")
    definitions = json.loads(house.ask("GET", house.api_path(trainer, "/swagger.json"), key=None).body)["definitions"]
    assert sorted(definitions["BatchInputs"]["required"]) == ["more", "rows", "test"]
    assert sorted(definitions["BatchExecutionRequest"]["required"]) == ["GlobalParameters", "Inputs"]
    assert definitions["GlobalParameters"]["required"] == ["Strength"]
    assert definitions["GlobalParameters"]["properties"]["Strength"]["type"] == "number"
    definitions = json.loads(house.ask("GET", house.api_path(scorer, "/swagger.json"), key=None).body)["definitions"]
    threshold = definitions["GlobalParameters"]["properties"]["Threshold"]
    assert threshold == {
        "type": "number",
        "description": "how sure to be",
        "default": 0.5,
        "minimum": 0.0,
        "maximum": 1.0,
    }
    assert definitions["ExecutionRequest"]["example"]["GlobalParameters"] == {"Threshold": 0.5}
    path = trainer.help_location.removeprefix(house.settings.public_url)
    page = house.ask("GET", f"{path}/jobs", key=None).body.decode()
    assert all(word in page for word in ("Strength", "must be given", "more</code> has rows to train on"))
    path = scorer.help_location.removeprefix(house.settings.public_url)
    assert "how sure to be" in house.ask("GET", f"{path}/score", key=None).body.decode()


# -- declarations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("inputs = { a = 'evaluate' }", "at least one"),
        ("inputs = { a = 'rows' }", "evaluate"),
        ("parameters = { A = 5 }", "sets"),
        ("parameters = { A = { sets = 'C' } }", "estimator.KEYWORD"),
        ("parameters = { A = { sets = 'estimator.' } }", "estimator.KEYWORD"),
        ("parameters = { A = { sets = 'data', defualt = 1 } }", "defualt"),
        ("parameters = { A = { sets = 'estimator.C', default = [] } }", "default"),
        ("parameters = { A = { sets = 'estimator.C', default = 5, maximum = 4 } }", "to 4"),
        ("parameters = { A = { sets = 'estimator.C', type = 'double' } }", "integer, number"),
        ("parameters = { A = { sets = 'threshold', default = 7 } }", "to 1.0"),
        ("parameters = { A = { sets = 'data' }, B = { sets = 'data' } }", "two parameters"),
        ("parameters = { A = { sets = 'estimator.C', choices = ['x'], type = 'number' } }", "'A'"),
        ("parameters = { A = { sets = 'estimator.C', minimum = 'x' } }", "minimum"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declared: Path, tmp_path: Path, keys: str, words: str) -> None:
    """At the start, with the file, the experiment and the remedy."""
    (tmp_path / "line.csv").write_text(line(2))
    head = '[[experiment]]\nname = "T"\nestimator = "linear-regressor"\nlabel = "y"\nfirst_data = "line.csv"\n'
    (tmp_path / "e.toml").write_text(head + keys)
    with pytest.raises(ValueError, match="experiment 'T'") as error:
        load_experiments(tmp_path / "e.toml")
    assert words in str(error.value)


def test_the_first_training_uses_the_defaults(declared: Path) -> None:
    """A default is what happens without the parameter, from the start."""
    experiment, other = load_experiments(declared / "experiments.toml")
    assert (experiment.estimator_parameters, experiment.rows) == ({"alpha": 1.0}, {"city": ""})
    assert other.estimator_parameters == {}
