"""Named keys of endpoints: made, listed, revoked. The key itself is shown once and kept by nobody here."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.keys import MAX_KEYS, KeyKind, NamedKey, check_key_name
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.settings import new_key
from airflow_provider_azureml_classic.server.state.endpoint_store import Store, key_hash
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, KeyRow
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace


class Keys:
    """The named keys.

    :param store: where they are kept.
    :param workspace: endpoints.
    :param clock: gives the present time.
    """

    def __init__(self, store: Store, workspace: Workspace, clock: Clock) -> None:
        self._store = store
        self._workspace = workspace
        self._clock = clock

    def listed(self, row: EndpointRow) -> list[NamedKey]:
        """The named keys of an endpoint, or of its customer, in the order of their names; those that have ended, too.

        :param row: the endpoint.
        """
        rows = [key for key in self._store.other_keys(row) if key.name is not None]
        return [
            NamedKey(key.name or "", KeyKind(key.kind), key.created_at or self._clock(), key.expires_at)
            for key in sorted(rows, key=lambda key: key.name or "")
        ]

    def make(self, row: EndpointRow, name: str, kind: KeyKind, expires_at: datetime | None) -> NamedKey:
        """Make a key; one that is called so ends.

        :param row: the endpoint.
        :param name: of the key.
        :param kind: what it is for.
        :param expires_at: when it ends.
        :raises RequestRejected: it would have ended already, or there are too many.
        """
        now = self._clock()
        if expires_at is not None and expires_at <= now:
            raise rejection("ExpiryTimeInThePast", f"ExpiresAt is {expires_at:%Y-%m-%d %H:%M} UTC, which is over.")
        secret = new_key()
        key = KeyRow(key_hash(secret), row.id, check_key_name(name), kind.value, now, expires_at)
        if not self._store.put_key(row, key, MAX_KEYS):
            raise rejection("BadParameterValue", f"There are {MAX_KEYS} named keys; revoke one of them first.")
        self._workspace.forget()
        return NamedKey(name, kind, now, expires_at, secret)

    def revoke(self, row: EndpointRow, name: str) -> None:
        """End a key.

        :param row: the endpoint.
        :param name: of the key.
        :raises RequestRejected: there is none.
        """
        if not self._store.revoke_key(row, name):
            raise rejection("MissingKeys", f"There is no key {name!r}.", target="Name")
        self._workspace.forget()
