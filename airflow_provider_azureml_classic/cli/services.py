"""``azureml-classic services``, ``check`` and ``doctor``."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow_provider_azureml_classic.cli.session import DONE, REFUSED, Session
from airflow_provider_azureml_classic.cli.views import SERVICE_COLUMNS, service_view
from airflow_provider_azureml_classic.retraining.checkup import check_service, check_storage, table_rows


def check(session: Session) -> int:
    """Whether the service answers and takes the token."""
    services = session.client.list_web_services()
    session.out.record(
        {"url": session.access.url, "workspace": session.access.workspace_id, "web_services": len(services)}
    )
    return DONE


def doctor(session: Session) -> int:
    """Whether everything is there that retraining needs: connection, versions, clocks, storage."""
    client, storage = session.client, session.access.storage

    def now() -> datetime:
        return datetime.now(UTC)

    findings = client.perform(check_service(client, now))
    findings.append(client.perform(check_storage(client, storage, now)))
    session.out.rows(table_rows(findings), ("check", "state", "found", "do"))
    return REFUSED if any(one.good is False for one in findings) else DONE


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
