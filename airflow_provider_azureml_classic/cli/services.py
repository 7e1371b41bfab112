"""``azureml-classic services`` and ``check``."""

from __future__ import annotations

from airflow_provider_azureml_classic.cli.session import DONE, REFUSED, Session
from airflow_provider_azureml_classic.cli.views import SERVICE_COLUMNS, service_view


def check(session: Session) -> int:
    """Whether the service answers and takes the token."""
    services = session.client.list_web_services()
    session.out.record(
        {"url": session.access.url, "workspace": session.access.workspace_id, "web_services": len(services)}
    )
    return DONE


def list_services(session: Session) -> int:
    """All web services."""
    session.out.rows([service_view(service) for service in session.client.list_web_services()], SERVICE_COLUMNS)
    return DONE


def show_service(session: Session) -> int:
    """One web service."""
    session.out.record(service_view(session.client.find_web_service(session.arguments.service)))
    return DONE


def delete_service(session: Session) -> int:
    """Delete a web service with its endpoints."""
    service = session.client.find_web_service(session.arguments.service)
    if not session.sure(f"Deleting web service {service.name!r} with {service.endpoint_count} endpoints"):
        return REFUSED
    session.client.delete_web_service(service.id)
    session.out.say(f"Deleted {service.name!r}.")
    return DONE
