"""What all operators share: the connection.

Operators and sensors import what they need to work only when they work: a DAG file is read again and again, mostly by
processes that run none of its tasks. What stands at the top of these modules is what their declarations need.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.hooks import AzureMLClassicHook

#: Defaults of parameters, spelled here as well as where they belong, which is not imported; a test compares.
DEFAULT_CONNECTION = "azureml_classic_default"
DEFAULT_ENDPOINT = "default"


def airflow_errors() -> AbstractContextManager[None]:
    """See :func:`airflow_provider_azureml_classic.hooks.airflow_errors`."""
    from airflow_provider_azureml_classic import hooks

    return hooks.airflow_errors()


class AzureMLClassicOperator(BaseOperator):
    """An operator with a connection to a workspace.

    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(self, *, azureml_classic_conn_id: str = DEFAULT_CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.azureml_classic_conn_id = azureml_classic_conn_id

    @cached_property
    def hook(self) -> AzureMLClassicHook:
        """The hook of the connection."""
        from airflow_provider_azureml_classic.hooks import AzureMLClassicHook

        return AzureMLClassicHook(self.azureml_classic_conn_id)
