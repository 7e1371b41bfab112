"""Endpoints as assets: one spelling of the URI, and events only where they belong."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_azureml_classic.assets import (
    ENDPOINTS,
    create_asset,
    endpoint_asset,
    event_extra,
    host_of,
    record_update,
    spellings,
    with_endpoint_outlet,
)
from airflow_provider_azureml_classic.operators import RetrainFleetOperator, UpdateTrainedModelOperator
from tests.support.tasks import RECEIPT

WORKSPACE = "60251f10f7f147f2904d807636ac3a65"
BIKES: dict[str, Any] = {
    "management_url": "http://127.0.0.1:8080",
    "workspace_id": WORKSPACE,
    "web_service": "Bike Rental [predictive exp.]",
    "endpoint": "bikes",
}


def test_uri_has_the_four_parts_encoded():
    """Blanks, brackets and slashes of a web service's name cannot be mistaken for parts of the path."""
    asset = endpoint_asset(**{**BIKES, "web_service": "a/b [x]"})
    assert asset.uri == f"azureml-classic://127.0.0.1:8080/{WORKSPACE}/a%2Fb%20%5Bx%5D/bikes"
    assert asset.name == asset.uri


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Management.AzureML.net/", "management.azureml.net"),
        ("https://m.net:443", "m.net"),
        ("http://m.net:80/prefix", "m.net"),
        ("http://m.net:443", "m.net:443"),
        ("m.net:8080", "m.net:8080"),
        ("http://user:secret@m.net", "m.net"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_host_of_management_url(url: str, host: str):
    """The host is told without scheme, user, prefix and a port that goes without saying."""
    assert host_of(url) == host


def test_spellings_of_one_uri_are_one_asset():
    """A URI that a DAG author types in another encoding or case is normalised to what the helper makes."""
    typed = Asset(uri=f"AzureML-Classic://LocalHost:8080/{WORKSPACE}/Bike Rental [predictive exp.]/bikes/")
    assert typed.uri == endpoint_asset(**{**BIKES, "management_url": "http://localhost:8080"}).uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (f"azureml-classic://host/{WORKSPACE}/service", "has 2 of the 3 parts"),
        (f"azureml-classic://host/{WORKSPACE}/service/endpoint/more", "has 4 of the 3 parts"),
        (f"azureml-classic://host/{WORKSPACE}//endpoint", "has 2 of the 3 parts"),
        ("azureml-classic:///w/s/e", "names no management host"),
        ("azureml-classic://host/w/s/e?sig=secret", "must have no user, query"),
        ("azureml-classic://token@host/w/s/e", "must have no user, query"),
    ],
)
def test_malformed_uris_are_refused(uri: str, said: str):
    """A URI that is none of an endpoint is refused with its shape, and without what may be secret in it."""
    with pytest.raises(ValueError, match=said) as caught:
        Asset(uri=uri)
    assert "azureml-classic://{management host}/{workspace id}/{web service}/{endpoint}" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "token" not in str(caught.value)


def test_missing_parts_are_refused():
    """The helper refuses an empty workspace and a URL without a host."""
    with pytest.raises(ValueError, match="2 of the 3 parts"):
        endpoint_asset(**{**BIKES, "workspace_id": " "})
    with pytest.raises(ValueError, match="names no host"):
        endpoint_asset(**{**BIKES, "management_url": "https://"})


def test_airflow_finds_handler_factory_and_converter():
    """The scheme is registered with Airflow by the provider's description."""
    from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime

    manager = ProvidersManagerTaskRuntime()
    assert manager.asset_factories["azureml-classic"] is create_asset
    made = manager.asset_factories["azureml-classic"](**BIKES, extra={"team": "bikes"})
    assert made.extra == {"team": "bikes"}
    assert "azureml-classic" in manager.asset_uri_handlers
    assert "azureml-classic" in manager.asset_to_openlineage_converters


@pytest.mark.slow
def test_openlineage_dataset_of_an_endpoint():
    """OpenLineage knows an endpoint by its host, and the readable rest of its URI."""
    pytest.importorskip("openlineage.client", reason="apache-airflow-providers-openlineage is not installed")
    from airflow_provider_azureml_classic.assets import convert_asset_to_openlineage

    dataset = convert_asset_to_openlineage(endpoint_asset(**BIKES), None)
    assert dataset.namespace == "azureml-classic://127.0.0.1:8080"
    assert dataset.name == f"{WORKSPACE}/Bike Rental [predictive exp.]/bikes"


def test_update_task_has_the_alias_of_all_endpoints():
    """Without outlets of the user's an update is an event through the common alias; other outlets are kept."""
    assert with_endpoint_outlet([]) == [ENDPOINTS]
    table = Asset("table")
    task = UpdateTrainedModelOperator(task_id="t", web_service="s", endpoint="e", job={}, outlets=[table])
    assert task.outlets == [table, ENDPOINTS]


@pytest.mark.parametrize("outlet", [AssetAlias("mine"), endpoint_asset(**BIKES)], ids=["alias", "asset"])
def test_outlets_of_the_user_replace_the_alias(outlet: Any):
    """A task that names an endpoint's asset or an alias of its own does not emit through the common one as well."""
    assert with_endpoint_outlet([outlet]) == [outlet]


@pytest.mark.parametrize(
    ("given", "aliases"),
    [({}, {ENDPOINTS.name}), ({"outlets": [AssetAlias("mine")]}, {"mine"}), ({"emit_asset": False}, set())],
    ids=["implicit", "own", "off"],
)
@pytest.mark.parametrize("mapped", [False, True], ids=["plain", "mapped"])
def test_airflow_reads_the_alias_of_a_task(given: dict[str, Any], aliases: set[str], mapped: bool):
    """What Airflow's DAG processor finds in a serialized DAG: an alias it does not find there it would make with the
    first event, and fail one of two tasks whose events come at once.
    """
    from airflow.dag_processing.collection import AssetModelOperation
    from airflow.serialization.serialized_objects import LazyDeserializedDAG

    common: dict[str, Any] = {"training_service": "t", "scoring_service": "s", **given}
    with DAG("d", schedule=None) as dag:
        if mapped:
            UpdateTrainedModelOperator.partial(task_id="u", web_service="s", job={}, **given).expand(endpoint=["a"])
            RetrainFleetOperator.partial(task_id="f", **common).expand(items=[[{"endpoint": "a", "inputs": "a.csv"}]])
        else:
            UpdateTrainedModelOperator(task_id="u", web_service="s", job={}, endpoint="a", **given)
            RetrainFleetOperator(task_id="f", items=[], **common)
    read = AssetModelOperation.collect({"d": LazyDeserializedDAG.from_dag(dag)})
    assert set(read.asset_aliases) == aliases
    assert all(set(task.outlets) >= {AssetAlias(name) for name in aliases} for task in dag.tasks)


def test_default_outlets_of_a_dag_stay_with_a_mapped_task():
    """Outlets of ``default_args`` are kept beside the alias."""
    table = Asset("table")
    with DAG("d", schedule=None, default_args={"outlets": [table]}):
        update = UpdateTrainedModelOperator.partial(task_id="u", web_service="s", job={}).expand(endpoint=["a"])
    assert update.outlets == [table, ENDPOINTS]


def test_no_outlet_when_switched_off():
    """``emit_asset=False`` leaves the outlets alone."""
    task = UpdateTrainedModelOperator(task_id="t", web_service="s", endpoint="e", job={}, emit_asset=False)
    assert list(task.outlets) == []


def test_event_extra_is_json_without_secrets():
    """The extra holds what the receipt proves, and no number that JSON cannot hold."""
    extra = event_extra(RECEIPT)
    assert json.loads(json.dumps(extra, allow_nan=False)) == {
        "web_service": "Bike Rental [predictive exp.]",
        "endpoint": "bikes",
        "resource": "Bike Rental [trained model]",
        "job": "47e3",
        "window": {"start": None, "end": "2026-01-16T00:00:00+00:00"},
        "metrics": {"Mean Absolute Error": 16.2},
        "model": "https://a/models/bikes/20260116T000000Z.ilearner",
        "sha256": "ab",
        "content": None,
        "replaced": "https://a/models/old.ilearner",
        "replaced_content": None,
        "proof": "score",
        "rehearsal": None,
        "approval": None,
    }


def _assets() -> list[Asset]:
    settings = SimpleNamespace(management_url=BIKES["management_url"], workspace_id=WORKSPACE)
    service = SimpleNamespace(name=BIKES["web_service"], id="b5599fea")
    return spellings(settings, BIKES["web_service"], service, SimpleNamespace(name="bikes"))


def test_declared_asset_gets_the_extra_by_name_or_id():
    """An endpoint's asset that a task declares gets the receipt, whether it has the web service's name or its id."""
    by_id, by_name = endpoint_asset(**{**BIKES, "web_service": "b5599fea"}), endpoint_asset(**BIKES)
    events = OutletEventAccessors()
    record_update({"outlet_events": events}, [by_id, by_name], RECEIPT, _assets())
    assert events[by_id].extra["job"] == events[by_name].extra["job"] == "47e3"


def test_alias_gets_one_event_of_the_endpoint():
    """Through an alias one event is told, of the asset with the web service as the task names it."""
    events = OutletEventAccessors()
    record_update({"outlet_events": events}, [ENDPOINTS], RECEIPT, _assets())
    told = events[ENDPOINTS].asset_alias_events
    assert [(event.dest_asset_key.uri, event.extra["proof"]) for event in told] == [
        (endpoint_asset(**BIKES).uri, "score")
    ]


def test_wrong_outlet_is_told(caplog: pytest.LogCaptureFixture):
    """An outlet that is another endpoint gets no receipt, and the log says so; other assets are no business of ours."""
    other, table = endpoint_asset(**{**BIKES, "endpoint": "scooters"}), Asset("table")
    events = OutletEventAccessors()
    with caplog.at_level(logging.WARNING):
        record_update({"outlet_events": events}, [other, table], RECEIPT, _assets())
    assert events[other].extra == events[table].extra == {}
    assert "scooters is not the endpoint that was updated" in caplog.text


def test_without_airflow_nothing_is_recorded():
    """An operator that is called without Airflow's context has no events to fill."""
    record_update({}, [ENDPOINTS], RECEIPT, _assets())
