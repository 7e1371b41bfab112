"""Blobs that other machines read and write for this server, each by an address that opens it alone for a day."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.names import WORK_CONTAINER
from airflow_provider_azureml_classic.server.clock import Clock, system_clock
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach
from airflow_provider_azureml_classic.server.storage.locations import (
    MAX_DOWNLOAD,
    READ,
    WRITE,
    AccountLocation,
    Location,
    Locations,
    UrlLocation,
)
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE

#: How long the address of a blob opens it, for one piece of work with its waiting.
WORK_LIFE = timedelta(hours=24)
#: Largest file of the own store that is lent, in bytes: as large as a blob may be there.
MAX_LENT = 5 << 30


class Lending:
    """Lends blobs.

    :param locations: of the service.
    :param account: that the own store plays.
    :param clock: gives the present time.
    """

    def __init__(self, locations: Locations, account: StorageAccount, clock: Clock) -> None:
        self.locations = locations
        self._account = account
        self._clock = clock

    def lent(self, location: Location, letters: str = READ) -> UrlLocation:
        """A blob as another machine reads it.

        :param location: of the own store, or of an account whose key this server has; any other one is an address
            already, with what its client opens it with.
        :param letters: what the address allows.
        """
        if isinstance(location, UrlLocation):
            return location
        account, path = self._account, BlobReference(location.reference.relative_location)
        # This server is asked wherever it is; an account may be one that a client names.
        reach, limit = Reach((), [urlsplit(account.endpoint).netloc]), MAX_LENT
        if isinstance(location, AccountLocation):
            account, reach, limit = location.account, location.reach, MAX_DOWNLOAD
        opened = account.opened(path, letters, WORK_LIFE, self._clock())
        if opened is None:
            raise rejection("InvalidBlob", f"{path.location!r} has no address.")
        return UrlLocation(opened.normalised(), path, False, reach, system_clock, limit)

    def for_work(self, path: str) -> UrlLocation:
        """A blob of the service's store that another machine writes.

        :param path: container and name.
        """
        self.locations.make(path.partition("/")[0])
        return self.lent(self.locations.resolve(WHOLE_STORE, BlobReference(path), WRITE), "rcw")

    def take_back(self, until: str) -> None:
        """Remove what was made for work and is still there, as servers were killed.

        :param until: of the folders in :data:`WORK_CONTAINER`, those whose names are less.
        """
        for path, _ in self.locations.below(WORK_CONTAINER):
            if path.partition("/")[2] < until:
                self.locations.remove(WHOLE_STORE, path)
