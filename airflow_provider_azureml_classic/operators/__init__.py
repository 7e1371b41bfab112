"""Operators: one verb of the service each."""

from airflow_provider_azureml_classic.operators.batch import BatchExecutionOperator
from airflow_provider_azureml_classic.operators.endpoints import AddEndpointOperator
from airflow_provider_azureml_classic.operators.gate import ModelQualityGate
from airflow_provider_azureml_classic.operators.rollback import RollbackModelOperator
from airflow_provider_azureml_classic.operators.update import UpdateTrainedModelOperator

__all__ = [
    "AddEndpointOperator",
    "BatchExecutionOperator",
    "ModelQualityGate",
    "RollbackModelOperator",
    "UpdateTrainedModelOperator",
]
