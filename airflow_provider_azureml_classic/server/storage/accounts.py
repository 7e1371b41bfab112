"""Storage accounts that the configuration knows: where the blobs of an account really are.

Clients of the cloud service name ``https://ACCOUNT.blob.core.windows.net``, in a connection string often by the
account's name only. The map says where that is today: an Azurite, another cloud, or the server's own store.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import DEVELOPMENT_ACCOUNT, StorageAccount
from airflow_provider_azureml_classic.server.blobs.names import check_blob, check_container

#: Stands for the server's own store in the map.
OWN = "own"
#: Container of the models in place, in the account that the service's outputs go to; named by no client.
MODELS_CONTAINER = "azuremlclassic-models"
_NAME = re.compile(r"[a-z0-9]{3,24}")


class Accounts:
    """What references mean here.

    :param own: the account that the own store plays.
    :param addresses: account name -> address of its blobs, or :data:`OWN`.
    :param home: account of the service's outputs; ``None``: the own store.
    """

    def __init__(
        self, own: StorageAccount, addresses: Mapping[str, str] | None = None, home: StorageAccount | None = None
    ) -> None:
        self._addresses = {
            name: own.endpoint if address == OWN else address.rstrip("/") for name, address in (addresses or {}).items()
        }
        self.home = replace(home, endpoint=self._address(home.endpoint)) if home else None
        endpoints = [*self._addresses.values(), *([self.home.endpoint] if self.home else [])]
        #: Hosts that the configuration names, with their ports: they may be asked.
        self.hosts = frozenset(urlsplit(address).netloc.lower() for address in endpoints if address != own.endpoint)

    def resolved(self, reference: BlobReference) -> BlobReference:
        """The reference with the address that its account has here.

        A place in :attr:`home` is opened with its key: a path alone, or an address there without a token, as receipts
        have it. A connection string that holds a token instead of a key becomes base location and token.

        :param reference: as a client sent it.
        :raises RequestRejected: ``InvalidBlobConnectionString``; a path that clients may not name.
        """
        if reference.connection_string:
            account = self.account(reference.connection_string)
            if account.key:
                return replace(reference, base_location="", connection_string=account.connection_string)
            return BlobReference(reference.relative_location, account.endpoint, account.sas_token).normalised()
        if reference.base_location:
            reference = replace(reference, base_location=self._address(reference.base_location)).normalised()
        if self.home is None:
            return reference
        path = reference.below(f"{self.home.endpoint}/")
        if path is None or (reference.sas_token and reference.base_location):
            return reference
        _check_path(path)
        return BlobReference(path, connection_string=self.home.connection_string)

    def account(self, connection_string: str) -> StorageAccount:
        """The account of a connection string, at its address here.

        :param connection_string: as a client sent it.
        :raises RequestRejected: ``InvalidBlobConnectionString``.
        """
        account = StorageAccount.from_connection_string(connection_string)
        if account == DEVELOPMENT_ACCOUNT and account.name in self._addresses:
            return replace(account, endpoint=self._addresses[account.name])
        return replace(account, endpoint=self._address(account.endpoint))

    def path_at_home(self, base: str, relative: str) -> str | None:
        """Container and name in :attr:`home` that an address means, or may mean; ``None``: it is elsewhere.

        The account is recognized by its name whatever the rest of the host is called, its secondary address included:
        who is kept to a part of it must not come in by another door.

        :param base: address of an account, or the beginning of one.
        :param relative: what follows.
        """
        if self.home is None:
            return None
        names = {self.home.name, f"{self.home.name}-secondary"}
        home, there = urlsplit(self.home.endpoint), urlsplit(base)
        path = "/".join(filter(None, (unquote(there.path.strip("/")), relative.lstrip("/"))))
        host = (there.hostname or "").rstrip(".")
        if host.partition(".")[0] in names:
            return path
        if host != home.hostname or not home.path.strip("/"):
            return path if host == home.hostname else None
        account, _, below = path.partition("/")
        # An account in the path: what is not plainly another account counts as this one.
        plain = _NAME.fullmatch(account) and account not in names
        return None if plain and ".." not in path and "\\" not in path else below

    def _address(self, base: str) -> str:
        """Where ``https://NAME.blob.anything`` is; other addresses are what they are."""
        try:
            parts = urlsplit(base)
            name, dot, rest = (parts.hostname or "").partition(".")
        except ValueError:
            return base
        if dot and rest.startswith("blob.") and name in self._addresses:
            return f"{self._addresses[name]}{parts.path}".rstrip("/")
        return base


def _check_path(path: str) -> None:
    container, _, blob = path.partition("/")
    if check_container(container) == MODELS_CONTAINER:
        raise rejection("LocationNotAllowed", f"The container {MODELS_CONTAINER!r} belongs to the server.")
    check_blob(blob)


def read_map(items: Iterable[str]) -> dict[str, str]:
    """The map that arguments or the environment write as ``NAME=URL``.

    :param items: each ``NAME=http(s)://host[:port][/path]``, or ``NAME=own``.
    :raises ValueError: an item is something else; the message names it.
    """
    addresses: dict[str, str] = {}
    for item in items:
        name, equals, address = item.strip().partition("=")
        address = address.strip()
        parts = urlsplit(address)
        is_url = parts.scheme in ("http", "https") and parts.hostname and not (parts.query or parts.username)
        if not equals or not _NAME.fullmatch(name) or not (is_url or address == OWN):
            raise ValueError(
                f"--storage-account {item!r} must be NAME=URL or NAME={OWN}: a storage account's name (3 to 24 "
                "lower-case letters and digits) and the address of its blobs, for example "
                "mydata=http://127.0.0.1:10000/mydata."
            )
        addresses[name] = address
    return addresses
