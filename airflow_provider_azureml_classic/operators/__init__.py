"""Operators: one verb of the service each."""

from airflow_provider_azureml_classic.operators.approval import ApproveModelOperator
from airflow_provider_azureml_classic.operators.batch import BatchExecutionOperator
from airflow_provider_azureml_classic.operators.data_check import DataCheckOperator
from airflow_provider_azureml_classic.operators.doctor import DoctorOperator
from airflow_provider_azureml_classic.operators.endpoints import (
    AddEndpointOperator,
    DeleteEndpointOperator,
    ListEndpointsOperator,
    RefreshEndpointOperator,
    RegenerateKeysOperator,
)
from airflow_provider_azureml_classic.operators.fleet import RetrainFleetOperator
from airflow_provider_azureml_classic.operators.gate import ModelQualityGate
from airflow_provider_azureml_classic.operators.jobs import CancelJobOperator
from airflow_provider_azureml_classic.operators.rollback import RollbackModelOperator
from airflow_provider_azureml_classic.operators.scoring import BatchScoringOperator, ScoreOperator
from airflow_provider_azureml_classic.operators.table import WriteTableOperator
from airflow_provider_azureml_classic.operators.update import UpdateTrainedModelOperator
from airflow_provider_azureml_classic.operators.upload import UploadDataOperator

__all__ = [
    "AddEndpointOperator",
    "ApproveModelOperator",
    "BatchExecutionOperator",
    "BatchScoringOperator",
    "CancelJobOperator",
    "DataCheckOperator",
    "DeleteEndpointOperator",
    "DoctorOperator",
    "ListEndpointsOperator",
    "ModelQualityGate",
    "RefreshEndpointOperator",
    "RegenerateKeysOperator",
    "RetrainFleetOperator",
    "RollbackModelOperator",
    "ScoreOperator",
    "UpdateTrainedModelOperator",
    "UploadDataOperator",
    "WriteTableOperator",
]
