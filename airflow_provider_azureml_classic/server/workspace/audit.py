"""Writes the audit list: an entry before whatever may change something, and what came of it afterwards.

Rule 1: which operations these are is decided by the table of operations and by the method of a form, not here.
Rule 2: where the entry cannot be written, nothing is done. Where only its end cannot, that is logged.
Rule 3: whoever presents nobody's key writes nothing: the list cannot be filled from outside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, without_query
from airflow_provider_azureml_classic.protocol.audit import AuditPage
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.settings import Settings
from airflow_provider_azureml_classic.server.state.audit_store import AuditStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store, key_hash
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, KeyRow

log = logging.getLogger(__name__)

#: Where the request comes from that is being answered.
ADDRESS: ContextVar[str] = ContextVar("address", default="")
#: Who has the workspace token.
OWNER = "workspace token"
#: Entries that are kept at most, however young.
MAX_ENTRIES = 1_000_000
#: Time between two looks for entries that are too old.
_PAUSE = timedelta(hours=1)
_LONGEST = 255


@dataclass
class Outcome:
    """What came of an operation.

    :param status: of its answer; that of a server that failed unless it is said.
    """

    status: int = 500


class Audit:
    """The audit list.

    :param settings: tokens, and how long entries are kept.
    :param entries: where they are kept.
    :param store: whose keys are whose.
    :param clock: gives the present time.
    """

    def __init__(self, settings: Settings, entries: AuditStore, store: Store, clock: Clock) -> None:
        self._settings, self._entries, self._store, self._clock = settings, entries, store, clock
        self._cleared: datetime | None = None

    def who(self, key: str) -> str:
        """What a key is called; empty for nobody's.

        :param key: what follows ``Bearer``.
        """
        if self._settings.is_token(key):
            return OWNER
        if self._settings.is_read_token(key):
            return "read-only token"
        holder = self._store.endpoint_with_key(key)
        return self.name(*holder) if holder else ""

    def name(self, row: EndpointRow, presented: KeyRow) -> str:
        """What a key of an endpoint is called.

        :param row: the endpoint.
        :param presented: the key as it is kept.
        """
        two = {key_hash(row.primary_key): "primary key", key_hash(row.secondary_key): "secondary key"}
        which = f"key {presented.name}" if presented.name else two.get(presented.hash, "key")
        service = self._store.service(row.service_id)
        return f"{which} of {row.name} ({service.name if service else row.service_id})"

    @contextmanager
    def entry(self, who: str, what: str, target: str) -> Iterator[Outcome]:
        """Do something, and leave an entry of it.

        :param who: see :meth:`who`.
        :param what: the operation.
        :param target: what it is about.
        """
        outcome, number = Outcome(), self._begun(who, what, target) if who else None
        try:
            yield outcome
        except AzureMLClassicError as error:
            outcome.status = error.status or outcome.status
            raise
        finally:
            if number is not None:
                self._ended(number, outcome.status)

    def _begun(self, who: str, what: str, target: str) -> int:
        now = self._clock()
        if self._cleared is None or now - self._cleared >= _PAUSE:
            self._cleared = now
            self._entries.forget(now - timedelta(days=self._settings.audit_days), MAX_ENTRIES)
        texts = {"who": who, "what": what, "target": without_query(target)}
        values = {name: text[:_LONGEST] for name, text in texts.items()}
        return self._entries.add({**values, "at": now, "address": ADDRESS.get()[:64], "status": None})

    def _ended(self, number: int, status: int) -> None:
        try:
            self._entries.end(number, status)
        except AzureMLClassicError:
            log.exception("entry %d of the audit list has no status: it was %d", number, status)

    def page(self, limit: int, before: int | None) -> AuditPage:
        """Entries, the last one first.

        :param limit: the most that are wanted.
        :param before: ``next`` of the page before.
        """
        found = self._entries.page(limit + 1, before)
        entries = tuple(found[:limit])
        return AuditPage(entries, entries[-1].number if len(found) > limit else None)
