"""``azureml-classic keys``, ``quota`` and ``audit``: what the owner of a workspace looks after."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_azureml_classic.cli.endpoints import found
from airflow_provider_azureml_classic.cli.session import DONE, REFUSED, Session, listed_until
from airflow_provider_azureml_classic.protocol.audit import AuditEntry
from airflow_provider_azureml_classic.protocol.customers import Quota, Usage
from airflow_provider_azureml_classic.protocol.keys import KeyKind, NamedKey
from airflow_provider_azureml_classic.protocol.moments import to_utc

#: Columns of the lists.
KEY_COLUMNS = ("name", "kind", "created_at", "expires_at")
AUDIT_COLUMNS = ("at", "who", "what", "target", "from", "status")


def _view(key: NamedKey) -> dict[str, Any]:
    view = {"name": key.name, "kind": key.kind.value, "created_at": key.created_at, "expires_at": key.expires_at}
    return {**view, **({"key": key.secret} if key.secret else {})}


def list_keys(session: Session) -> int:
    """The named keys of an endpoint."""
    endpoint = found(session)
    keys = session.client.list_keys(endpoint.web_service_id, endpoint.name)
    session.out.rows([_view(key) for key in keys], KEY_COLUMNS)
    return DONE


def make_key(session: Session) -> int:
    """Make a named key, and show it this once."""
    arguments, endpoint = session.arguments, found(session)
    names = endpoint.web_service_id, endpoint.name
    if any(key.name == arguments.key for key in session.client.list_keys(*names)) and not session.sure(
        f"Replacing the key {arguments.key!r} of {endpoint.name!r}"
    ):
        return REFUSED
    try:
        end = to_utc(arguments.expires_at) if arguments.expires_at else None
    except ValueError:
        raise ValueError(f"--expires-at {arguments.expires_at}: expected a time, as in 2026-12-31T00:00:00Z.") from None
    key = session.client.make_key(*names, arguments.key, KeyKind(arguments.kind), end)
    session.out.record(_view(key))
    session.out.say("The key is shown this once: the service keeps a digest of it only.")
    return DONE


def revoke_key(session: Session) -> int:
    """End a named key."""
    endpoint, key = found(session), session.arguments.key
    if not session.sure(f"Revoking the key {key!r} of {endpoint.name!r}"):
        return REFUSED
    session.client.revoke_key(endpoint.web_service_id, endpoint.name, key)
    session.out.say(f"Revoked {key!r}.")
    return DONE


def show_quota(session: Session) -> int:
    """What a customer may have, and what he has."""
    endpoint = found(session)
    _print(session, *session.client.get_quota(endpoint.web_service_id, endpoint.name))
    return DONE


def set_quota(session: Session) -> int:
    """Change what a customer may have; what is not mentioned stays."""
    endpoint, arguments = found(session), session.arguments
    given = {"jobs_a_day": arguments.jobs_a_day, "bytes_kept": arguments.bytes_kept}
    values = {name: _limit(name, text) for name, text in given.items() if text is not None}
    if not values:
        raise ValueError("Nothing to change was given: --jobs-a-day, --bytes-kept.")
    names = endpoint.web_service_id, endpoint.name
    quota, _ = session.client.get_quota(*names)
    _print(session, *session.client.set_quota(*names, replace(quota, **values)))
    return DONE


def _limit(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"--{name.replace('_', '-')} {text}: expected a whole number, or none.")
    return int(text)


def _print(session: Session, quota: Quota, usage: Usage) -> None:
    limits = {"jobs_a_day": quota.jobs_a_day, "jobs_today": usage.jobs, "day_ends": usage.until}
    session.out.record({**limits, "bytes_kept": quota.bytes_kept, "bytes_now": usage.length})


def audit(session: Session) -> int:
    """Who has changed what, the last operation first."""

    def ask(limit: int, before: int | None) -> tuple[tuple[AuditEntry, ...], int | None]:
        page = session.client.list_audit(limit=limit, before=before)
        return page.entries, page.next

    rows = [
        {
            "at": one.at,
            "who": one.who,
            "what": one.what,
            "target": one.target,
            "from": one.address,
            "status": one.status,
        }
        for one in listed_until(ask, session.arguments.limit)
    ]
    session.out.rows(rows, AUDIT_COLUMNS)
    return DONE
