"""The endpoints of a web service as partitions of one asset: what is declared, what is refused, what is filtered."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, PartitionedAssetTimetable
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable

from airflow_provider_azureml_classic.assets import (
    ENDPOINTS,
    check_partitions,
    record_partitions,
    web_service_asset,
)
from airflow_provider_azureml_classic.operators import RetrainFleetOperator, UpdateTrainedModelOperator
from airflow_provider_azureml_classic.protocol.values import WebService
from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints

SERVICE = WebService(id="5" * 32, name="Bikes")
BIKES = web_service_asset("Bikes")


class Events(defaultdict[Any, Any]):
    """Airflow's outlet events, which take partitions for whatever asset they are asked for."""

    def __init__(self) -> None:
        super().__init__(lambda: SimpleNamespace(keys=set()))

    def __getitem__(self, asset: Asset) -> Any:
        event = super().__getitem__(asset.name)
        event.add_partitions = event.keys.update
        return event


def test_an_outlet_that_is_not_declared_is_refused() -> None:
    """Airflow would lose its events without a word; another web service's would be told of updates that it had not."""
    check_partitions([BIKES, Asset("table")], "partitions", SERVICE)
    check_partitions([web_service_asset(SERVICE.id)], "partitions", SERVICE)
    check_partitions([ENDPOINTS], "both", SERVICE)
    for outlets, assets, words in (
        ([ENDPOINTS, Asset("table")], "partitions", r"Set outlets=\[web_service_asset\('Bikes'\)\]"),
        ([web_service_asset("Census")], "both", "is of web service 'Census'"),
        ([BIKES], "all", "assets is 'all'"),
    ):
        with pytest.raises(ValueError, match=words):
            check_partitions(outlets, assets, SERVICE)


def test_only_the_asset_of_the_web_service_has_partitions() -> None:
    """Of the endpoints that were updated; without any there is no event with a key."""
    events = Events()
    record_partitions({"outlet_events": events}, [BIKES, Asset("table"), ENDPOINTS], ["contoso", "fabrikam"])
    assert {name: event.keys for name, event in events.items()} == {BIKES.name: {"contoso", "fabrikam"}}
    record_partitions({"outlet_events": events}, [BIKES], [])
    record_partitions({}, [BIKES], ["contoso"])
    assert len(events) == 1


def test_the_alias_stays_unless_partitions_are_all_that_is_wanted() -> None:
    """DAGs that wait for the alias go on as before; mapped tasks alike."""
    options: dict[str, Any] = {"web_service": "Bikes", "outlets": [BIKES]}
    with DAG("d", schedule=None):
        both = UpdateTrainedModelOperator(task_id="a", endpoint="e", job={}, **options)
        alone = UpdateTrainedModelOperator(task_id="b", endpoint="e", job={}, assets="partitions", **options)
        mapped = UpdateTrainedModelOperator.partial(task_id="c", job={}, assets="partitions", **options)
        mapped = mapped.expand(endpoint=["e"])
    assert (both.outlets, alone.outlets, mapped.outlets) == ([BIKES, ENDPOINTS], [BIKES], [BIKES])


@pytest.mark.parametrize(("patience", "most"), [("5", 500), ("30.5", 3050), ("0.001", 1)])
def test_a_fleet_has_no_more_partitions_than_one_call_can_tell(
    monkeypatch: pytest.MonkeyPatch, patience: str, most: int
) -> None:
    """Before Airflow's client loses its patience; it is said before anything is trained."""
    monkeypatch.setenv("AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT", patience)
    items = [{"endpoint": f"e{n}", "inputs": "a.csv"} for n in range(most + 1)]
    fleet = RetrainFleetOperator(
        task_id="fleet",
        training_service="t",
        scoring_service="Bikes",
        items=items,
        outlets=[BIKES],
        assets="partitions",
    )
    context: Any = {"dag_run": SimpleNamespace(run_after=None, partition_date="2026-01-01")}
    fleet._ports, fleet._resolved = ("input1", "output1"), (None, None, SERVICE)  # type: ignore[assignment]
    with pytest.raises(ValueError, match=rf"There are {most + 1} items.* {most} at most\. Map the task over parts"):
        fleet._items(context)
    fleet.items = items[1:]
    assert len(fleet._items(context)) == most


def test_the_filter_keeps_what_is_named() -> None:
    """And nothing else; it comes back from Airflow's database as it was, found by the plugin."""
    schedule = PartitionedAssetTimetable(assets=BIKES, default_partition_mapper=OnlyEndpoints(["contoso", "fabrikam"]))
    again: Any = decode_timetable(encode_timetable(schedule))
    mapper = again.default_partition_mapper
    assert [mapper.to_downstream(key) for key in ("contoso", "northwind", "")] == [["contoso"], [], []]
    for wrong in ("contoso", []):
        with pytest.raises(ValueError, match="endpoints is"):
            OnlyEndpoints(wrong)
