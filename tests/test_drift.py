"""Sensor, trigger and watch of drift, against the running server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, TaskDeferred

from airflow_provider_azureml_classic.client import AsyncClient
from airflow_provider_azureml_classic.protocol.drift import DRIFTED, EndpointDrift, FeatureDrift
from airflow_provider_azureml_classic.sensors import ModelDriftSensor
from airflow_provider_azureml_classic.triggers import DriftTrigger
from airflow_provider_azureml_classic.watchers import ModelDriftTrigger
from tests.support import BIKES_SCORING, ServerProcess
from tests.support.tasks import NOON, added, context, one_line, refused, wired

pytestmark = pytest.mark.usefixtures("airflow_connection")


@pytest.fixture(scope="module")
def drifted(server: ServerProcess) -> str:
    """An endpoint whose callers all ask for the same hour, and always."""
    with server.client() as client:
        endpoint = added(client, "driftcalls")
        client.score(endpoint, [NOON] * 120)
    return "driftcalls"


def wait(**options: Any) -> ModelDriftSensor:
    """The sensor, poking often and not for long."""
    given = {"poke_interval": 0.05, "timeout": 0.3, "deferrable": False, **options}
    return ModelDriftSensor(task_id="wait", web_service=BIKES_SCORING, **given)


def test_the_sensor_returns_what_has_drifted(drifted: str) -> None:
    """Of all endpoints, or of one; what is returned can be kept by Airflow."""
    result = json.loads(json.dumps(wait().execute(context())))
    assert drifted in result["endpoints"]
    assert wait(endpoint=drifted).execute(context())["endpoints"] == [drifted]
    (facts,) = (one for one in result["drift"] if one["endpoint"] == drifted)
    assert facts["rows"] == 120
    assert facts["psi"] > 1
    assert "hr" in facts["features"]
    assert f"Endpoint '{drifted}' has drifted in 120 rows" in facts["reason"]


@pytest.mark.slow
def test_the_sensor_waits_for_what_has_not(drifted: str) -> None:
    """One whose calls are few, and one whose features are ignored, until the time is over."""
    for options in ({"endpoint": "default"}, {"endpoint": drifted, "rows": 121}):
        with one_line(AirflowSensorTimeout, "was not seen to drift within 0.3 s"):
            wait(**options).execute(context())


def test_the_sensor_defers(drifted: str) -> None:
    """What it hands to the triggerer is plain JSON that makes the same trigger."""
    with pytest.raises(TaskDeferred) as caught:
        wait(endpoint="default", deferrable=True, ignore=["hr"], psi=0.5).execute(context())
    path, arguments = caught.value.trigger.serialize()
    again = DriftTrigger(**json.loads(json.dumps(arguments)))
    assert (path.rpartition(".")[2], again.only, again.terms["psi"]) == ("DriftTrigger", "default", 0.5)


async def test_the_trigger_looks_at_one_or_at_all(server: ServerProcess, drifted: str) -> None:
    """The triggerer asks with the same terms."""
    terms: dict[str, Any] = {"days": 7, "psi": 0.25, "rows": 100, "ignore": []}
    async with AsyncClient(server.url, server.connection["workspace_id"], server.connection["token"]) as client:
        service = (await client.find_web_service(BIKES_SCORING)).id
        for only, seen in ((None, True), (drifted, True), ("default", False)):
            common = {"azureml_classic_conn_id": "c", "web_service_id": service, "deadline": None, "poll_interval": 1.0}
            trigger = DriftTrigger(endpoint="default", only=only, terms=terms, **common)
            assert await trigger.poll(client, await client.get_endpoint(service, "default")) is seen
        arguments = ModelDriftTrigger(web_service=BIKES_SCORING).serialize()[1]
        assert drifted in [one.name for one in await ModelDriftTrigger.poll(client, service, arguments)]


def test_a_service_that_counts_nothing_fails_the_task() -> None:
    """At once, with a sentence."""
    task = wait()
    wired(task).bends["get_drift"] = lambda *_: refused(404, "PageNotFound", "There is nothing.")
    with one_line(AirflowFailException, "offers no call that tells the drift of endpoints"):
        task.execute(context())


def look(**models: str) -> list[EndpointDrift]:
    """Endpoints that have drifted, with their models."""
    feature = FeatureDrift("hr", 0.8, 1e-9, 0.0, 0.0, 0.0, 0.0)
    return [
        EndpointDrift(name, DRIFTED, model, 9, 900, 900, None, (feature,), ("hr",)) for name, model in models.items()
    ]


def test_one_event_a_model() -> None:
    """However often it is seen; another endpoint or model is news, and a watch of one endpoint sees no other."""
    watch, state, told = ModelDriftTrigger(web_service="s"), None, []
    looks = ({"a": "1"}, {"a": "1"}, {}, {"a": "1", "b": "1"}, {"a": "2", "b": "1"})
    for one in looks:
        verdict = watch.judge(look(**one), state, None)  # type: ignore[arg-type]
        state = json.loads(json.dumps(verdict.state))
        told.append([fact["endpoint"] for fact in verdict.event["endpoints"]] if verdict.event else [])
    assert told == [["a"], [], [], ["b"], ["a"]]
    mine = ModelDriftTrigger(web_service="s", endpoint="b")
    event = mine.judge(look(a="1", b="1"), None, None).event  # type: ignore[arg-type]
    assert event is not None
    assert [fact["reason"] for fact in event["endpoints"]] == [
        "Endpoint 'b' has drifted in 900 rows; stability index: hr 0.80."
    ]


def test_watches_keep_their_key_and_share_a_poll() -> None:
    """Defaults and the interval do not change what is remembered; watches with other terms ask for themselves."""
    usual = ModelDriftTrigger(web_service="s", endpoint="a")
    assert usual.state_key == "azureml_classic_watch_5db3d4f10bac7689"
    spelled = ModelDriftTrigger(web_service="s", endpoint="a", days=7, psi=0.25, rows=100, ignore=(), poll_interval=5)
    assert spelled.state_key == usual.state_key
    assert ModelDriftTrigger(web_service="s").shared_stream_key() == usual.shared_stream_key()
    assert ModelDriftTrigger(web_service="s", psi=1).shared_stream_key() != usual.shared_stream_key()
    with pytest.raises(ValueError, match="days is 0; it must be from 1 to 30"):
        ModelDriftTrigger(web_service="s", days=0)
