"""The pages of a web service's drift."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlencode

from airflow_provider_azureml_classic.client.answers import ask_addition, decoded
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.protocol.drift import VERDICT_PARAMETER, DriftPage, EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.messages import Request
from airflow_provider_azureml_classic.protocol.pages import AFTER_PARAMETER


def drift_pages(request: Request, terms: Terms | None, verdict: str | None) -> Steps[list[EndpointDrift]]:
    """All endpoints of all pages.

    :param request: for them, without a query.
    :param terms: what counts as a drift.
    :param verdict: of these endpoints only.
    """
    query = [*(terms or Terms()).to_query(), *([(VERDICT_PARAMETER, verdict)] if verdict else [])]
    endpoints: list[EndpointDrift] = []
    after: str | None = ""
    while after is not None:
        values = urlencode([*query, *([(AFTER_PARAMETER, after)] if after else [])])
        asked = replace(request, url=f"{request.url}?{values}")
        answer = yield from ask_addition(asked, "tells the drift of endpoints", "Watch the age of their models.")
        page = DriftPage.from_wire(decoded(asked, answer))
        endpoints += page.endpoints
        if page.next is not None and not (page.endpoints and page.next > after):
            raise ProtocolError("The pages of the drift do not end.", verb=request.operation.name)
        after = page.next
    return endpoints
