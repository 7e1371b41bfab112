"""What all operators share: the connection."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_azureml_classic.hooks import AzureMLClassicHook


class AzureMLClassicOperator(BaseOperator):
    """An operator with a connection to a workspace.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(self, *, azureml_classic_conn_id: str = AzureMLClassicHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.azureml_classic_conn_id = azureml_classic_conn_id

    @cached_property
    def hook(self) -> AzureMLClassicHook:
        """The hook of the connection."""
        return AzureMLClassicHook(self.azureml_classic_conn_id)
