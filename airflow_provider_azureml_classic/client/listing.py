"""Lists that services of today give in pages: verbs of :class:`~.verbs.Verbs`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client.answers import ask, decoded, items
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol import pages
from airflow_provider_azureml_classic.protocol.messages import Request
from airflow_provider_azureml_classic.protocol.operations import LIST_ENDPOINTS, LIST_SERVICES
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService

T = TypeVar("T")


def list_web_services(self: Any) -> Steps[list[WebService]]:
    """All web services of the workspace, oldest first; in pages, if the service has them.

    :param self: the client.
    """
    services: list[WebService] = yield from _all(self._management(LIST_SERVICES), WebService.from_wire)
    return services


def list_endpoints(self: Any, service_id: str) -> Steps[list[Endpoint]]:
    """All endpoints of a web service, with their keys, oldest first; in pages, if the service has them.

    :param self: the client.
    :param service_id: 32 hex digits.
    """
    every = self._management(LIST_ENDPOINTS, service=service_id)
    endpoints: list[Endpoint] = yield from _all(every, Endpoint.from_wire)
    return endpoints


def _all(every: Request, read: Callable[[Any], T]) -> Steps[list[T]]:
    """The entries of all pages.

    :param every: asks for all of them.
    :param read: reads one.
    """
    found: list[T] = []
    after: str | None = None
    for _ in range(pages.MOST_PAGES):
        request = replace(every, url=f"{every.url}?{pages.page_query(after)}")
        response = yield from ask(request)
        found += map(read, items(decoded(request, response)))
        after = response.headers.get(pages.NEXT)
        if after is None:
            return found
    raise ProtocolError(f"The list does not end after {pages.MOST_PAGES} pages.", verb=every.operation.name)
