"""Signing in: who comes in as what, who is refused, and where the others go."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from threading import Lock
from urllib.parse import unquote

from airflow_provider_azureml_classic.exceptions import AccessDenied, RequestRejected
from airflow_provider_azureml_classic.protocol.operations import PORTAL, SCORE
from airflow_provider_azureml_classic.server.portal.sessions import OWNER, READER, Brake, holder
from airflow_provider_azureml_classic.server.portal.visit import Page, Visit
from airflow_provider_azureml_classic.server.state.endpoint_store import key_hash

#: How long after the start a link signs in.
CODE_LIFE = timedelta(minutes=30)


class Code:
    """What a link to the portal holds that signs in once.

    :param code: as it is in the link; empty: none signs in.
    :param now: when the server started.
    """

    def __init__(self, code: str, now: datetime) -> None:
        self._code = code
        self._until = now + CODE_LIFE
        self._lock = Lock()

    def takes(self, code: str, now: datetime) -> bool:
        """Whether this is the code, and in time; it is used up then.

        :param code: from the link.
        :param now: the present time.
        """
        with self._lock:
            good = bool(self._code) and now < self._until and hmac.compare_digest(code.encode(), self._code.encode())
            if good:
                self._code = ""
        return good


def entered(visit: Visit, brake: Brake, address: str) -> str | Page:
    """Who somebody is by what was typed, see :class:`~.sessions.Session`; a page for those who may not come in.

    :param visit: with what was typed.
    :param brake: makes those wait who guess.
    :param address: of the client.
    """
    wait = brake.wait(address)
    if wait:
        return _again(visit, f"Too many wrong tokens from your address. Try again in {wait} s.", 429)
    settings, typed = visit.core.settings, visit.text("token")
    who = OWNER if settings.is_token(typed) else READER if settings.is_read_token(typed) else _customer(visit, typed)
    if who:
        brake.passed(address)
        return who
    brake.failed(address)
    return _again(visit, "This is not the token of this workspace, nor a key of a customer.", 401)


def _customer(visit: Visit, key: str) -> str:
    """The holder of a key of a customer who is kept apart; empty for all other keys."""
    try:
        visit.core.customers.with_key(key, SCORE)
    except (AccessDenied, RequestRejected):
        return ""
    return holder(key_hash(key))


def used_up(visit: Visit, brake: Brake, address: str) -> Page:
    """The page for those whose link does not sign in.

    :param visit: of the link.
    :param brake: makes those wait who guess.
    :param address: of the client.
    """
    wait = brake.wait(address)
    if wait:
        return _again(visit, f"Too many wrong tokens from your address. Try again in {wait} s.", 429)
    brake.failed(address)
    return _again(visit, "This link was used before, or is too old. Sign in with the workspace token.", 401)


def _again(visit: Visit, error: str, status: int) -> Page:
    return Page("sign_in", {"wanted": visit.text("next"), "error": error}, status)


def wanted(visit: Visit, *, is_key: bool) -> str:
    """The page that was asked for before, if it is one of ours; else the first.

    :param visit: with what the form carried.
    :param is_key: a key was presented: a customer has pages of his own.
    """
    path = visit.text("next")
    area = f"{visit.prefix}{PORTAL}/" + ("customer/" if is_key else "")
    # A browser goes up at two dots, however they are written.
    climbs = ".." in unquote(path.partition("?")[0]).split("/")
    ours = path.startswith(area) and path.isprintable() and "\\" not in path and not climbs
    return path if ours else visit.path("customer" if is_key else "services")
