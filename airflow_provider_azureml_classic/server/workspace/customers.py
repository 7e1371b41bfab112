"""Customers who are kept apart: what one of them has, told by his key alone.

Rule: whoever asks is found by his key, and everything here is of that customer: there is no name to ask another by.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.customers import MAX_FILES
from airflow_provider_azureml_classic.protocol.operations import Operation
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.state.endpoint_store import Store, key_hash
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, KeyRow
from airflow_provider_azureml_classic.server.storage.locations import WRITE, Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE, Scope
from airflow_provider_azureml_classic.server.workspace.quotas import Quotas
from airflow_provider_azureml_classic.server.workspace.rights import opens
from airflow_provider_azureml_classic.server.workspace.workspace import Caller


@dataclass(frozen=True)
class Customer:
    """One customer.

    :param id: never another's, not even of one of the same name later.
    :param training: his endpoint that takes training jobs; ``None`` where that web service was deleted.
    :param scoring: his endpoint that scores; likewise.
    :param caller: who asks.
    :param key: what he has presented.
    """

    id: str
    training: EndpointRow | None
    scoring: EndpointRow | None
    caller: Caller
    key: KeyRow

    @property
    def name(self) -> str:
        """Of both endpoints."""
        row = self.scoring or self.training
        return row.name if row else ""

    @property
    def scope(self) -> Scope:
        """What of the service's store is his."""
        return Scope(self.id)

    @property
    def folder(self) -> str:
        """The same as a path."""
        return self.scope.folder or ""


class Customers:
    """Finds customers, and looks after their files.

    :param store: endpoints.
    :param locations: places of files.
    :param quotas: how much each may have.
    :param clock: gives the present time.
    """

    def __init__(self, store: Store, locations: Locations, quotas: Quotas, clock: Clock) -> None:
        self._store = store
        self._locations = locations
        self.quotas = quotas
        self._clock = clock

    def with_key(self, key: str, operation: Operation) -> Customer:
        """Whose key this is.

        :param key: what follows ``Bearer``.
        :param operation: what is asked.
        :raises AccessDenied: nobody's.
        :raises RequestRejected: the key of an endpoint whose web service does not keep its customers apart.
        """
        return self.with_digest(key_hash(key), operation)

    def with_digest(self, digest: str, operation: Operation) -> Customer:
        """The same, by what a key is found by.

        :param digest: of the key.
        :param operation: what is asked.
        :raises AccessDenied: nobody's.
        :raises RequestRejected: see :meth:`with_key`.
        """
        holder = self._store.endpoint_with_digest(digest)
        if holder is None or not opens(holder[1], operation, self._clock()):
            raise rejection("ScoreRequestUnauthorized", "Invalid credentials provided.")
        row, presented = holder
        if row.customer is None:
            raise rejection(
                "OperationNotSupported",
                "The web service of this key does not keep its customers apart: its experiment is declared without "
                'isolation = "customer".',
            )
        rows = self._store.endpoints_of_customer(row.customer)
        services = (self._store.service(one.service_id) for one in rows)
        pair = {service.training: one for service, one in zip(services, rows, strict=True) if service}
        return Customer(
            row.customer, pair.get(True), pair.get(False), Caller(row, presented.kind is not None), presented
        )

    def signed(self, customer: Customer, file: str) -> BlobReference:
        """A file with a token that reads and writes it, for an hour.

        :param customer: whose it is.
        :param file: path below his folder.
        """
        self.quotas.check_bytes(customer.id, 0)
        return self._locations.opened(customer.scope, f"{customer.folder}/{file}")

    def opened(self, reference: BlobReference) -> BlobReference:
        """A blob of the whole store with a token that reads and writes it, for the workspace's owner.

        :param reference: its path, or its URL.
        :raises RequestRejected: ``InvalidBlob``: it is elsewhere.
        """
        path = self._locations.path_in_store(reference)
        if path is None:
            raise rejection("InvalidBlob", f"{reference.location!r} is not in the store of the service.")
        return self._locations.opened(WHOLE_STORE, path)

    def write(self, customer: Customer, file: str, body: bytes) -> BlobReference:
        """Write a file; the reference that a job takes.

        :param customer: whose it is.
        :param file: path below his folder.
        :param body: its content.
        """
        with TemporaryDirectory() as folder:
            path = Path(folder) / "file"
            path.write_bytes(body)
            return self.store(customer, file, path)

    def store(self, customer: Customer, file: str, path: Path) -> BlobReference:
        """Store a file that is on the disk; the reference that a job takes.

        :param customer: whose it is.
        :param file: path below his folder.
        :param path: its content.
        """
        reference = BlobReference(f"{customer.folder}/{file}")
        location = self._locations.resolve(customer.scope, reference, WRITE)
        self.quotas.check_bytes(customer.id, path.stat().st_size)
        location.check()
        location.deliver(path)
        return reference

    def delete(self, customer: Customer, file: str) -> None:
        """Remove a file.

        :param customer: whose it is.
        :param file: path below his folder.
        :raises RequestRejected: ``BlobNotFound``.
        """
        self._locations.remove(customer.scope, f"{customer.folder}/{file}")

    def files(self, customer: Customer, limit: int = MAX_FILES, after: str = "") -> list[tuple[str, int]]:
        """Path below the folder and length of each file, in the order of the paths.

        :param customer: whose they are.
        :param limit: the most that are wanted.
        :param after: where the page before ended; it need not be there any more.
        """
        listed = self._locations.listed(customer.scope)
        named = ((name.removeprefix(f"{customer.folder}/"), length) for name, length in listed)
        return heapq.nsmallest(limit, (file for file in named if file[0] > after))
