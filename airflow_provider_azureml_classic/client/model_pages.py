"""The list of the models that an endpoint had: a verb of :class:`~.verbs.Verbs`."""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.client.answers import ask_addition, decoded
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.protocol.job_history import PAGE, page_query
from airflow_provider_azureml_classic.protocol.model_history import ModelPage
from airflow_provider_azureml_classic.protocol.operations import LIST_MODELS


def list_models(
    self: Any, service_id: str, name: str, *, limit: int = PAGE, before: int | None = None
) -> Steps[ModelPage]:
    """Models that an endpoint had, those put live last first: our addition to the protocol.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: the endpoint's name.
    :param limit: the most that are wanted, up to 500.
    :param before: ``next`` of the page before this one.
    :raises RequestRejected: ``OperationNotSupported``: the service does not have this call.
    """
    names = {"workspace": self.workspace_id, "service": service_id, "endpoint": name.strip()}
    url = LIST_MODELS.url(self.management_url, names, page_query(limit, before))
    request = self._request(LIST_MODELS, url, self._token)
    answer = yield from ask_addition(
        request, "lists the models that an endpoint had", "Name the model by its location, or by a receipt."
    )
    return ModelPage.from_wire(decoded(request, answer))
