"""The list of a web service's endpoints: a verb of :class:`~.verbs.Verbs`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_azureml_classic.client.answers import ask, decoded, items
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol import pages
from airflow_provider_azureml_classic.protocol.operations import LIST_ENDPOINTS
from airflow_provider_azureml_classic.protocol.values import Endpoint


def list_endpoints(self: Any, service_id: str) -> Steps[list[Endpoint]]:
    """All endpoints of a web service, with their keys, oldest first; in pages, if the service has them.

    :param self: the client.
    :param service_id: 32 hex digits.
    """
    found: list[Endpoint] = []
    after: str | None = None
    every = self._management(LIST_ENDPOINTS, service=service_id)
    for _ in range(pages.MOST_PAGES):
        request = replace(every, url=f"{every.url}?{pages.page_query(after)}")
        response = yield from ask(request)
        found += [Endpoint.from_wire(item) for item in items(decoded(request, response))]
        after = response.headers.get(pages.NEXT)
        if after is None:
            return found
    raise ProtocolError(f"The list does not end after {pages.MOST_PAGES} pages.", verb=LIST_ENDPOINTS.name)
