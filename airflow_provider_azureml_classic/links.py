"""Links from a task to what it works on; each works as soon as the task knows its address.

An operator pushes the address to XCom under the link's ``xcom_key`` once it has read its endpoint, so the button works
while the task waits, deferred or not. No link reads a connection, and no address holds a key or a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_azureml_classic.protocol.operations import portal_page

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

    from airflow_provider_azureml_classic.protocol.values import Endpoint


class PushedLink(BaseOperatorLink):
    """A link whose address the operator pushes.

    :cvar page: name of a page below the endpoint's help page, for a link to it.
    """

    page = ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty if the task ended before it knew the address.

        :param operator: the task.
        :param ti_key: the task instance.
        """
        # Airflow's worker calls this at the end of the task and stores the answer under the same key.
        from airflow.sdk.bases.xcom import BaseXCom

        address = BaseXCom.get_one(
            key=self.xcom_key,
            dag_id=ti_key.dag_id,
            task_id=ti_key.task_id,
            run_id=ti_key.run_id,
            map_index=ti_key.map_index,
        )
        return str(address or "")


class EndpointHelpLink(PushedLink):
    """The endpoint's help page: its addresses, its input and output, sample code."""

    name = "Endpoint help"
    xcom_key = "azureml_classic_endpoint_help"


class UpdateHelpLink(PushedLink):
    """The help page that lists the endpoint's updatable resources."""

    name = "Updatable resources"
    xcom_key = "azureml_classic_update_help"
    page = "update"


class PortalLink(PushedLink):
    """The endpoint in the portal of the self-hosted server: its live model, its history, its jobs."""

    name = "Endpoint in the portal"
    xcom_key = "azureml_classic_portal"

    @staticmethod
    def of(endpoint: Endpoint) -> str:
        """The address; empty for a service that has no portal.

        :param endpoint: as the service describes it.
        """
        return portal_page(endpoint.help_location, endpoint.web_service_id, endpoint.name)


class BatchJobLink(PushedLink):
    """The job's own address. The service shows it to whoever sends the endpoint's key."""

    name = "Batch job"
    xcom_key = "azureml_classic_batch_job"


def push_link(context: Mapping[str, Any], link: type[PushedLink], address: str) -> None:
    """Push the address of a link.

    :param context: Airflow's task context.
    :param link: which one.
    :param address: where it leads; an empty one is left out, as a service need not name its help page.
    """
    push = getattr(context.get("ti"), "xcom_push", None)
    if push is not None and address:
        push(key=link.xcom_key, value=address)


def push_help(context: Mapping[str, Any], endpoint: Endpoint | None, *further: type[PushedLink]) -> None:
    """Push the addresses of an endpoint's pages.

    :param context: Airflow's task context.
    :param endpoint: as the service describes it.
    :param further: links to pages below the help page.
    """
    address = endpoint.help_location.rstrip("/") if endpoint else ""
    push_link(context, EndpointHelpLink, address)
    if endpoint:
        push_link(context, PortalLink, PortalLink.of(endpoint))
    for link in further:
        push_link(context, link, f"{address}/{link.page}" if address else "")
