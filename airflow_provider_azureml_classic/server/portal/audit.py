"""Page: who has changed what."""

from __future__ import annotations

from airflow_provider_azureml_classic.protocol.job_history import PAGE
from airflow_provider_azureml_classic.protocol.pages import BEFORE_PARAMETER, read_before
from airflow_provider_azureml_classic.server.portal.visit import Page, Visit


def listed(visit: Visit) -> Page:
    """The last entries, or those before one."""
    page = visit.core.audit.page(PAGE, read_before(visit.query.get(BEFORE_PARAMETER)))
    return Page("audit", {"page": page, "days": visit.core.settings.audit_days, "first": not visit.query})


ROUTES = (("/audit", "GET", listed),)
