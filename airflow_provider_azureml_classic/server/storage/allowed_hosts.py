"""Which other hosts this server may ask, and connections that go nowhere else.

A location comes from a client, so it may name anything: a host inside the network, the address under which a cloud
gives out credentials, a name that resolves to another address at the second look, a host that redirects.

Rule 1: only listed hosts are asked, redirects included: the connection itself checks, whatever led to it.
Rule 2: a name is resolved once for each connection, and the connection goes to an address that was checked.
Rule 3: an address that is not public is asked only if the list says so: as an IP address, as ``localhost``, or as a
private host.
Rule 4: proxies, ``.netrc`` and other settings of the environment are not used: they lead past rules 1 and 2.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import BASE_LOCATION

Address = IPv4Address | IPv6Address

_PORTS = {"http": 80, "https": 443}
# What urlsplit and an HTTP library may take for different hosts, and what no address of a store has.
_AMBIGUOUS = re.compile(r"[\x00-\x20\x7f\\@?#]")
#: Public by its number, but answers inside Azure only, with credentials and settings of the machine.
_AZURE_PLATFORM = ip_address("168.63.129.16")
#: IPv6 addresses that carry an IPv4 address in their last 32 bits.
_CARRIERS = (ip_network("64:ff9b::/96"), ip_network("::/96"))


class Reach:
    """The hosts that may be asked.

    :param allowed: ``host`` or ``host:port``; IPv6 addresses with a port in brackets. Names must resolve to public
        addresses.
    :param private: the same, for names that may resolve to private, loopback and link-local addresses.
    :raises ValueError: an entry that is neither.
    """

    def __init__(self, allowed: Iterable[str], private: Iterable[str] = ()) -> None:
        self._private = {_entry(text) for text in private}
        self._allowed = {_entry(text) for text in allowed} | self._private

    def check_url(self, url: str) -> None:
        """Refuse an address that names a host that may not be asked; nothing is resolved yet.

        :param url: as a client sent it, without a query.
        :raises RequestRejected: ``InvalidBlob`` or ``LocationNotAllowed``.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise _no_address(url, f"is not an address: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            raise _no_address(url, "is not an http(s) address")
        self._check(parts.hostname, port or _PORTS[parts.scheme])
        if _AMBIGUOUS.search(url):
            raise _no_address("", "has a user name, a query, a blank or a backslash, which no address of a store has")

    def _check(self, host: str, port: int) -> None:
        name = _plain(host)
        if not {(name, None), (name, port)} & self._allowed:
            message = (
                f"The location is on the host {host!r}, port {port}, which this server may not ask; its own store "
                "may always be used."
            )
            raise rejection("LocationNotAllowed", message, target=BASE_LOCATION)

    def addresses(self, host: str, port: int) -> list[str]:
        """Addresses that a connection may go to.

        :param host: name or address, as in a URL, without brackets.
        :param port: its port.
        :raises RequestRejected: ``LocationNotAllowed``: the host is not listed, or leads to where it must not.
        :raises OSError: the name does not resolve.
        """
        self._check(host, port)
        resolved = [str(answer[4][0]) for answer in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if self._may_be_private(host, port):
            return resolved
        for address in resolved:
            if not is_public(address):
                message = (
                    f"The host {host!r} resolves to {address}, which is not a public address. If that is intended, "
                    f"start the server with --allow-private-host {host}, or list the address itself."
                )
                raise rejection("LocationNotAllowed", message, target=BASE_LOCATION)
        return resolved

    def _may_be_private(self, host: str, port: int) -> bool:
        name = _plain(host)
        is_listed = name == "localhost" or name.endswith(".localhost") or _address(name) is not None
        return is_listed or bool({(name, None), (name, port)} & self._private)


def is_public(text: str) -> bool:
    """Whether an address is one of the public Internet, also one that is carried inside an IPv6 address.

    :param text: an IP address, with or without a zone.
    """
    address = ip_address(text.partition("%")[0])
    return all(part.is_global and not part.is_multicast and part != _AZURE_PLATFORM for part in _carried(address))


def _carried(address: Address) -> list[Address]:
    if isinstance(address, IPv4Address):
        return [address]
    inner: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _CARRIERS):
        inner.append(IPv4Address(int(address) & 0xFFFFFFFF))
    if address.ipv4_mapped:
        # The carrier itself counts as private, whatever it carries.
        return [address.ipv4_mapped]
    return [address, *(part for part in inner if part is not None)]


def _address(name: str) -> Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _plain(host: str) -> str:
    """A host in the one spelling that is compared; other spellings of an IPv4 address stay what they are: unlisted."""
    name = host.strip().strip("[]").lower()
    address = _address(name)
    return str(address) if address else name


def _entry(text: str) -> tuple[str, int | None]:
    """Host and port of a list's entry."""
    text = text.strip()
    if _address(text.strip("[]")) is not None:
        return _plain(text), None
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.netloc != text or _AMBIGUOUS.search(text):
        raise ValueError(f"{text!r} is not a host. Write HOST, HOST:PORT or [IPv6]:PORT, without http:// and path.")
    return _plain(host), port


def _no_address(url: str, why: str) -> AzureMLClassicError:
    shown = f" {url!r}" if url else ""  # what is before an @ may be a password
    return rejection("InvalidBlob", f"{BASE_LOCATION}{shown} {why}.", target=BASE_LOCATION)
