"""The paths that users, entry points and Airflow's database name: they stand, and old ones lead to the same objects."""

from __future__ import annotations

from importlib import import_module

import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner

from airflow_provider_azureml_classic.triggers import ProofTrigger

PACKAGE = "airflow_provider_azureml_classic"

#: Names that the first version had, by module; docs, DAG files, entry points and stored rows may have them.
PUBLIC = {
    "operators": "BatchExecutionOperator AddEndpointOperator DeleteEndpointOperator ListEndpointsOperator "
    "RefreshEndpointOperator RegenerateKeysOperator RetrainFleetOperator ModelQualityGate CancelJobOperator "
    "RollbackModelOperator BatchScoringOperator ScoreOperator UpdateTrainedModelOperator UploadDataOperator",
    "operators.batch": "BatchExecutionOperator",
    "operators.endpoints": "AddEndpointOperator DeleteEndpointOperator ListEndpointsOperator RefreshEndpointOperator "
    "RegenerateKeysOperator",
    "operators.fleet": "RetrainFleetOperator",
    "operators.gate": "ModelQualityGate",
    "operators.jobs": "CancelJobOperator",
    "operators.rollback": "RollbackModelOperator",
    "operators.scoring": "BatchScoringOperator ScoreOperator",
    "operators.update": "UpdateTrainedModelOperator",
    "operators.upload": "UploadDataOperator",
    "sensors": "ModelFreshnessSensor JobSensor",
    "hooks": "AzureMLClassicHook ConnectionSettings airflow_errors",
    "client": "AsyncClient Client RetryPolicy",
    "exceptions": "AzureMLClassicError RequestRejected AccessDenied NotFound ServiceUnavailable ProtocolError "
    "JobFailed JobCancelled WaitTimeout UpdateNotProved Detail is_stale",
    "assets": "endpoint_asset sanitize_uri convert_asset_to_openlineage create_asset",
    "watchers": "EndpointWatch StaleModelTrigger ModelChangeTrigger Verdict",
    "notifications": "ModelUpdatedNotifier",
    "links": "BatchJobLink EndpointHelpLink PortalLink UpdateHelpLink",
    "quality": "Metric Answers Allowance",
    "triggers": "JobTrigger FreshnessTrigger FleetTrigger",
    "proof_trigger": "ProofTrigger",
    "protocol.errors": "to_response from_response",
    "protocol.messages": "Request Response",
    "protocol.windows": "STAMP window_end_of",
    "protocol.jobs": "Job JobRequest JobStatus",
    "protocol.job_history": "JobPage LogLine",
    "protocol.values": "Endpoint EndpointSettings Resource WebService ThrottleLevel TraceLevel check_endpoint_name",
    "protocol.tables": "Table",
    "protocol.operations": "Operation Credential match",
    "protocol.sas": "StorageAccount sign verify expiry_of permissions_of",
    "protocol.references": "BlobReference",
    "protocol.keys": "KeyType",
    "server.experiments": "Experiment Schema Scorer declare load_experiments read_ilearner train",
    "server.experiments.datasets": "bike_rentals census first_bike_rentals first_census write_csv",
    "server.experiments.training": "TrainingSummary train",
    "server.experiments.declaration": "Experiment load_experiments shipped_experiments",
    "server.faults": "FaultyApp",
    "server.__main__": "main",
    "cli.__main__": "main",
    "plugin": "AzureMLClassicPlugin",
}
#: Modules of earlier versions that only pass on what stands elsewhere now.
MOVED = {"quality": "retraining.quality", "proof_trigger": "triggers", "protocol.windows": "protocol.references"}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stand(module: str) -> None:
    """A module of the first version still has the names that others import from it."""
    there = import_module(f"{PACKAGE}.{module}")
    assert [name for name in PUBLIC[module].split() if not hasattr(there, name)] == []


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_leads_to_the_same_object(old: str) -> None:
    """Not to a copy: an ``isinstance`` or ``except`` with either is the same."""
    before, after = import_module(f"{PACKAGE}.{old}"), import_module(f"{PACKAGE}.{MOVED[old]}")
    names = PUBLIC[old].split()
    assert all(getattr(before, name) is getattr(after, name) for name in names)


def test_a_stored_path_of_the_first_version_gives_the_trigger() -> None:
    """Airflow's triggerer makes triggers of the class paths in its database."""
    runner = TriggerRunner.__new__(TriggerRunner)  # a whole one wants a triggerer's job
    runner.trigger_cache = {}
    assert runner.get_trigger_by_classpath(f"{PACKAGE}.proof_trigger.ProofTrigger") is ProofTrigger
