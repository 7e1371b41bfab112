"""Comparing new data with those of the live model, against the running server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, DataCheckOperator, ModelQualityGate
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from tests.support import BIKES, BIKES_SCORING, ServerProcess
from tests.support.gates import added, trained
from tests.support.tasks import context, rentals

pytestmark = pytest.mark.usefixtures("airflow_connection")

JANUARY = {"window_start": "2026-01-01", "window_end": "2026-01-11"}


class Pushed:
    """A task instance that remembers what is pushed to XCom."""

    max_tries = 2

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        """Remember a value."""
        self.values[key] = value


@pytest.fixture
def endpoint(server: ServerProcess, client: Client) -> str:
    """An endpoint whose model was trained on data of its own."""
    name = "lookedat"
    job = trained(server, client, name, datetime(2026, 2, 1, tzinfo=UTC), rentals().decode())
    made = added(client, name)
    place = BlobReference(f"models/{name}/20260201T000000Z.ilearner")
    client.patch_endpoint(made, EndpointSettings(resources=(replace(made.resource(), location=place),)))
    lines = rentals().decode().splitlines()
    at = lines[0].split(",").index("windspeed")
    blown = [lines[0]]
    for row in lines[1:]:
        cells = row.split(",")
        cells[at] = "900"
        blown.append(",".join(cells))
    server.upload("training/usual.csv", rentals())
    server.upload("training/blown.csv", "\n".join(blown).encode())
    assert len(job["job_id"]) == 32
    return name


def look(data: str, **options: Any) -> DataCheckOperator:
    """The operator, looking often."""
    given = {"poll_interval": 0.05, "deferrable": False, **JANUARY, **options}
    return DataCheckOperator(task_id="look", web_service=BIKES, inputs={"input1": f"training/{data}.csv"}, **given)


def test_data_as_before_pass(endpoint: str) -> None:
    """What was found is returned; nothing is trained."""
    found = look("usual", model_for=endpoint).execute(context())
    assert (found["verdict"], found["rows"]) == ("satisfied", 240)
    assert len(found["job_id"]) == 32


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "error"), [("fail", AirflowFailException), ("skip", AirflowSkipException)])
def test_data_unlike_before_end_the_task(endpoint: str, mode: Any, error: type[AirflowException]) -> None:
    """With what was found in XCom; a repetition finds the same, so a failure is final."""
    pushed = Pushed()
    task = look("blown", model_for=endpoint, on_violation=mode)
    with pytest.raises(error, match="Column 'windspeed' is far from"):
        task.execute({**context(), "ti": pushed})
    assert pushed.values["return_value"]["findings"][0]["rule"] == "outside"
    passing = look("blown", model_for=endpoint, on_violation="pass")
    told = passing.execute(context())
    assert told["verdict"] == "violated"


def test_without_an_endpoint_nothing_is_known(server: ServerProcess, endpoint: str) -> None:
    """A first model has nothing to be compared with."""
    assert look("blown", model_for="notthereyet").execute(context())["verdict"] == "not known"


@pytest.mark.slow
def test_a_training_fails_before_it_begins(endpoint: str) -> None:
    """Where that is wished; else it is told, and stands in the result."""
    options: dict[str, Any] = {"poll_interval": 0.05, "deferrable": False, **JANUARY, "model_for": endpoint}
    pushed = Pushed()
    task = BatchExecutionOperator(
        task_id="train",
        web_service=BIKES,
        inputs={"input1": "training/blown.csv"},
        data_check="fail",
        **options,
    )
    with pytest.raises(AirflowException, match="break the contract with the live model"):
        task.execute({**context(), "ti": pushed})
    assert pushed.values["data_check"]["verdict"] == "violated"
    for wrong in ({"data_check": "perhaps"}, {"data_limits": {"ouside": 1}}):
        task = BatchExecutionOperator(task_id="train", web_service=BIKES, **options, **wrong)
        with pytest.raises(AirflowException, match=r"perhaps|ouside"):
            task.execute(context())


@pytest.mark.slow
def test_a_gate_does_not_believe_figures_of_a_file_that_breaks_the_contract(endpoint: str) -> None:
    """However good they are: the rows that the file brought cannot tell whether it is wrong. A user may say so."""
    train = BatchExecutionOperator(
        task_id="train",
        web_service=BIKES,
        inputs={"input1": "training/blown.csv"},
        model_for=endpoint,
        poll_interval=0.05,
        deferrable=False,
        **JANUARY,
    )
    job = train.execute(context())
    assert job["data_check"]["verdict"] == "violated"
    rules: dict[str, Any] = {"endpoint": endpoint, "job": job, "max_worse": {"Mean Absolute Error": 1000}}

    def gate(**options: Any) -> ModelQualityGate:
        return ModelQualityGate(task_id="gate", web_service=BIKES_SCORING, **rules, **options)

    for options, error in (({}, AirflowSkipException), ({"on_undecided": "fail"}, AirflowFailException)):
        pushed = Pushed()
        with pytest.raises(error, match="The training file is not as those before"):
            gate(**options).execute({**context(), "ti": pushed})
        assert (pushed.values["return_value"]["decision"], pushed.values["return_value"]["undecided"]) == ("kept", True)
    passed = gate(on_undecided="pass").execute(context())
    assert (passed["decision"], passed["undecided"]) == ("pass", True)
    assert "The training file is not as those before" in passed["notes"][-1]


def test_options_are_checked(endpoint: str) -> None:
    """Before anything is submitted."""
    with pytest.raises(AirflowException, match="on_violation is 'perhaps'"):
        look("usual", model_for=endpoint, on_violation="perhaps").execute(context())
