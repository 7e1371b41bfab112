"""OpenLineage: which data made which model, and which model an endpoint serves."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.hooks import ConnectionSettings
from airflow_provider_azureml_classic.operators import (
    AddEndpointOperator,
    BatchExecutionOperator,
    UpdateTrainedModelOperator,
)
from airflow_provider_azureml_classic.operators.lineage import dataset_of, lineage
from airflow_provider_azureml_classic.protocol.references import BlobReference
from demo.days import generated
from tests.support import BIKES, BIKES_SCORING, ServerProcess

KEY = "a2V5a2V5"
ACCOUNT = f"DefaultEndpointsProtocol=https;AccountName=lake;AccountKey={KEY};EndpointSuffix=core.windows.net"


def settings(account: str = "") -> ConnectionSettings:
    """A connection's settings."""
    return ConnectionSettings("http://127.0.0.1:8080", "w", "token", storage_connection_string=account)


@pytest.mark.parametrize(
    ("blob", "account", "dataset"),
    [
        (BlobReference("c/p/d.csv"), "", ("azureml-classic://127.0.0.1:8080", "c/p/d.csv")),
        (BlobReference("c/p/d.csv"), ACCOUNT, ("wasbs://c@lake.blob.core.windows.net", "p/d.csv")),
        (BlobReference("c/d.csv", connection_string=ACCOUNT), "", ("wasbs://c@lake.blob.core.windows.net", "d.csv")),
        (
            BlobReference("c/d.csv", "https://x.blob.core.windows.net/", "?sig=secret"),
            ACCOUNT,
            ("wasbs://c@x.blob.core.windows.net", "d.csv"),
        ),
        (
            BlobReference("c/d.csv", "http://127.0.0.1:8080/mlclassic/", "?sig=secret"),
            "",
            ("http://127.0.0.1:8080", "mlclassic/c/d.csv"),
        ),
    ],
    ids=["own store", "account of the connection", "connection string", "azure", "other"],
)
def test_datasets_follow_the_naming_rules(blob: BlobReference, account: str, dataset: tuple[str, str]):
    """A blob has one name, however it is referred to, and neither key nor token is part of it."""
    assert dataset_of(blob, settings(account)) == dataset


def test_silent_without_the_provider(monkeypatch: pytest.MonkeyPatch):
    """Where Airflow's OpenLineage provider is not installed there is nothing to tell, and no error."""
    monkeypatch.setitem(sys.modules, "airflow.providers.openlineage.extractors", None)
    assert lineage(settings(), [BlobReference("c/d.csv")]) is None


def test_nothing_to_tell_before_it_is_done():
    """A task that was skipped, or failed early, tells nothing, and asks nobody."""
    train = BatchExecutionOperator(task_id="t", web_service="s", inputs={"input1": "c/d.csv"})
    update = UpdateTrainedModelOperator(task_id="u", web_service="s", endpoint="e", job={})
    assert train.get_openlineage_facets_on_complete(None) is None
    assert update.get_openlineage_facets_on_complete(None) is None


@pytest.mark.slow
def test_from_training_data_to_endpoint(airflow_connection: ServerProcess):
    """After real runs: data to model in the training task, the same model to the endpoint in the update."""
    pytest.importorskip(
        "airflow.providers.openlineage.extractors", reason="apache-airflow-providers-openlineage is not installed"
    )
    airflow_connection.upload("lineage/data.csv", generated(1)[0].training)
    scoring: dict[str, Any] = {"web_service": BIKES_SCORING, "endpoint": "lineage"}
    AddEndpointOperator(task_id="add", **scoring).execute({})
    train = BatchExecutionOperator(
        task_id="train",
        web_service=BIKES,
        inputs={"input1": "lineage/data.csv"},
        model_for="lineage",
        window_end="2026-01-16",
        poll_interval=0.5,
    )
    job = train.execute({})
    update = UpdateTrainedModelOperator(task_id="update", job=job, **scoring)
    receipt = update.execute({})
    trained = train.get_openlineage_facets_on_complete(SimpleNamespace())
    updated = update.get_openlineage_facets_on_complete(SimpleNamespace())

    store = airflow_connection.account.endpoint.rpartition("/")[2]
    host = airflow_connection.url
    assert [(d.namespace, d.name) for d in trained.inputs] == [(host, f"{store}/lineage/data.csv")]
    model = (host, f"{store}/{job['outputs']['output1'].partition(f'{store}/')[2]}")
    assert model in [(d.namespace, d.name) for d in trained.outputs]
    assert [(d.namespace, d.name) for d in updated.inputs] == [model]
    [endpoint] = updated.outputs
    # The version of the model's file is the same on both sides; that of the endpoint is what answers.
    [made] = [d for d in trained.outputs if (d.namespace, d.name) == model]
    digests = receipt["model"]
    assert made.facets["version"].datasetVersion == digests["sha256"]
    assert updated.inputs[0].facets["version"].datasetVersion == digests["sha256"]
    assert endpoint.facets["version"].datasetVersion == digests["content"]
    assert [d.facets for d in trained.outputs if d is not made] == [{}]
    assert endpoint.namespace == host.replace("http://", "azureml-classic://")
    assert endpoint.name.endswith("/Bike Rental [predictive exp.]/lineage")
    assert "sig=" not in repr((trained, updated))
