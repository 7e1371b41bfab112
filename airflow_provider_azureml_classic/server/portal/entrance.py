"""Signing in: who is refused, and where the others go."""

from __future__ import annotations

from airflow_provider_azureml_classic.protocol.operations import PORTAL
from airflow_provider_azureml_classic.server.portal.sessions import Brake, Sessions
from airflow_provider_azureml_classic.server.portal.visit import Page, Visit


def refused(visit: Visit, sessions: Sessions, brake: Brake, address: str) -> Page | None:
    """The page for those who may not come in; ``None`` for the others.

    :param visit: with what was typed.
    :param sessions: knows the token.
    :param brake: makes those wait who guess.
    :param address: of the client.
    """
    wait = brake.wait(address)
    if wait:
        return _again(visit, f"Too many wrong tokens from your address. Try again in {wait} s.", 429)
    if sessions.is_token(visit.text("token")):
        brake.passed(address)
        return None
    brake.failed(address)
    return _again(visit, "This is not the token of this workspace.", 401)


def _again(visit: Visit, error: str, status: int) -> Page:
    return Page("sign_in", {"wanted": visit.text("next"), "error": error}, status)


def wanted(visit: Visit) -> str:
    """The page that was asked for before, if it is one of ours; else the first.

    :param visit: with what the form carried.
    """
    path = visit.text("next")
    ours = path.startswith(f"{visit.prefix}{PORTAL}/") and path.isprintable() and "\\" not in path
    return path if ours else visit.path("services")
