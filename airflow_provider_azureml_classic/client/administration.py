"""Keys, quotas and the audit list: verbs of :class:`~.verbs.Verbs`, all of them our additions to the protocol.

Each raises ``OperationNotSupported`` where the service does not have the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.client.answers import ask_addition, decoded, encoded, items
from airflow_provider_azureml_classic.client.retries import Steps
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.audit import AuditPage
from airflow_provider_azureml_classic.protocol.customers import Quota, Usage
from airflow_provider_azureml_classic.protocol.job_history import PAGE, page_query
from airflow_provider_azureml_classic.protocol.keys import KeyKind, KeyType, NamedKey, key_to_wire
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.values import Endpoint


def _asked(
    client: Any,
    operation: ops.Operation,
    names: dict[str, str],
    what: str,
    body: Any = None,
    query: Sequence[tuple[str, str]] = (),
) -> Steps[tuple[Request, Response]]:
    url = operation.url(client.management_url, {"workspace": client.workspace_id, **names}, query)
    request = client._request(operation, url, client._token, b"" if body is None else encoded(body))
    instead = "Do it where the service is administered."
    return request, (yield from ask_addition(request, what, instead))


def regenerate_key(self: Any, service_id: str, name: str, which: KeyType) -> Steps[Endpoint]:
    """Replace one of an endpoint's keys; the other one stays valid.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: the endpoint's name.
    :param which: the key.
    :return: the endpoint with its keys as they are now.
    """
    names = {"service": service_id, "endpoint": name.strip()}
    request, response = yield from _asked(self, ops.REGENERATE_KEYS, names, "regenerates keys", which.to_wire())
    endpoint: Endpoint = self._masked(
        Endpoint.from_wire(decoded(request, response), etag=response.headers.get(ops.ETAG))
    )
    return endpoint


def list_keys(self: Any, service_id: str, name: str) -> Steps[list[NamedKey]]:
    """The named keys of an endpoint, or of its customer, without the keys themselves.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: the endpoint's name.
    """
    names = {"service": service_id, "endpoint": name.strip()}
    request, response = yield from _asked(self, ops.LIST_KEYS, names, "has named keys")
    return [NamedKey.from_wire(item) for item in items(decoded(request, response))]


def make_key(
    self: Any, service_id: str, name: str, key: str, kind: KeyKind, expires_at: datetime | None = None
) -> Steps[NamedKey]:
    """Make a named key; one of this name ends. The answer alone has the key itself.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: the endpoint's name.
    :param key: the name of the key.
    :param kind: what it is for.
    :param expires_at: when it ends; ``None``: when it is revoked.
    """
    names, body = {"service": service_id, "endpoint": name.strip(), "key": key}, key_to_wire(kind, expires_at)
    request, response = yield from _asked(self, ops.MAKE_KEY, names, "has named keys", body)
    made = NamedKey.from_wire(decoded(request, response))
    self._mask((made.secret,))
    return made


def revoke_key(self: Any, service_id: str, name: str, key: str) -> Steps[None]:
    """End a named key at once.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: the endpoint's name.
    :param key: the name of the key.
    """
    names = {"service": service_id, "endpoint": name.strip(), "key": key}
    yield from _asked(self, ops.REVOKE_KEY, names, "has named keys")


def get_quota(self: Any, service_id: str, name: str) -> Steps[tuple[Quota, Usage]]:
    """What a customer may have, and what he has.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: of an endpoint of his.
    """
    names = {"service": service_id, "endpoint": name.strip()}
    data = decoded(*(yield from _asked(self, ops.GET_QUOTA, names, "has quotas")))
    return Quota.of_answer(data), Usage.from_wire(data)


def set_quota(self: Any, service_id: str, name: str, quota: Quota) -> Steps[tuple[Quota, Usage]]:
    """Change what a customer may have; see :func:`get_quota`.

    :param self: the client.
    :param service_id: 32 hex digits.
    :param name: of an endpoint of his.
    :param quota: from now on.
    """
    names = {"service": service_id, "endpoint": name.strip()}
    data = decoded(*(yield from _asked(self, ops.SET_QUOTA, names, "has quotas", quota.to_wire())))
    return Quota.of_answer(data), Usage.from_wire(data)


def list_audit(self: Any, *, limit: int = PAGE, before: int | None = None) -> Steps[AuditPage]:
    """Who has changed what, the last operation first.

    :param self: the client.
    :param limit: the most entries that are wanted, up to 500.
    :param before: ``next`` of the page before this one.
    """
    query = page_query(limit, before)
    return AuditPage.from_wire(
        decoded(*(yield from _asked(self, ops.LIST_AUDIT, {}, "keeps an audit list", query=query)))
    )
