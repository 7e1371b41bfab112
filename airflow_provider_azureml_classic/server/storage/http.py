"""HTTP sessions that connect only to where :class:`~.reach.Reach` allows, and end in time.

Both ways out of this server use them: plain requests with a SAS token, and the SDK of Azure Storage.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_azureml_classic.exceptions import ServiceUnavailable, error_class, rejection
from airflow_provider_azureml_classic.protocol.references import BASE_LOCATION, BlobReference
from airflow_provider_azureml_classic.protocol.secrecy import hide_signatures
from airflow_provider_azureml_classic.server.storage.allowed_hosts import Reach

if TYPE_CHECKING:
    from requests import Session

#: Header in which Azure Storage says what is wrong.
ERROR_CODE_HEADER = "x-ms-error-code"
#: Seconds to connect, and between two pieces of an answer.
TIMEOUT = (10, 60)
#: Seconds that one transfer may take in all, however busy the other side looks.
MAX_SECONDS = 900.0
#: The same for a PATCH, whose client waits for the answer.
PATCH_SECONDS = 90.0


class Deadline:
    """Ends the connections of one session when its time is over.

    A time-out of a socket begins anew with each byte; only this one ends a source that sends a byte a minute.

    :param seconds: how long the session may live.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def watch(self, connection: socket.socket) -> None:
        """End this connection as well, at once if time is over.

        :param connection: as it was opened.
        """
        with self._lock:
            # A second handle: TLS takes the first one over.
            self._sockets.append(connection.dup())
        if self.over:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


@contextmanager
def session(reach: Reach, seconds: float = MAX_SECONDS) -> Iterator[Session]:
    """A session of requests that asks allowed hosts only, for a limited time.

    :param reach: which hosts.
    :param seconds: limit of everything done within the block.
    :raises RequestRejected: time was over.
    """
    import requests

    hide_signatures()
    with Deadline(seconds) as deadline, requests.Session() as direct:
        direct.trust_env = False
        direct.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        direct.headers["Accept-Encoding"] = "identity"
        adapter = _adapter(reach, deadline)
        direct.mount("http://", adapter)
        direct.mount("https://", adapter)
        try:
            yield direct
        except Exception:
            if not deadline.over:
                raise
        # Also without an error: an answer of no declared length looks complete when its connection ends.
        if deadline.over:
            message = f"The other host had not finished after {seconds:.0f} seconds."
            raise rejection("InvalidBlob", message, target=BASE_LOCATION) from None


def _adapter(reach: Reach, deadline: Deadline) -> Any:
    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

    classes = {
        scheme: type("Pool", (pool,), {"ConnectionCls": connection})
        for (scheme, connection), pool in zip(
            _connections(reach, deadline).items(), (HTTPConnectionPool, HTTPSConnectionPool), strict=True
        )
    }

    class Adapter(HTTPAdapter):
        """Makes pools of checked connections."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = classes

    return Adapter()


def _connections(reach: Reach, deadline: Deadline) -> dict[str, type[Any]]:
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.exceptions import HTTPError, NameResolutionError

    class Checked(HTTPConnection):
        """Connects to a checked address; ``Host`` and the certificate's name stay those of the URL."""

        def _new_conn(self) -> socket.socket:
            name = self._dns_host
            try:
                return self._first_of(reach.addresses(self.host, self.port or self.default_port))
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from None
            finally:
                self._dns_host = name

        def _first_of(self, addresses: list[str]) -> socket.socket:
            for remaining in reversed(range(len(addresses))):
                self._dns_host = addresses[-1 - remaining]
                try:
                    connection = super()._new_conn()
                except (OSError, HTTPError):
                    if not remaining:
                        raise
                else:
                    deadline.watch(connection)
                    return connection
            raise OSError("the name has no address")

    class CheckedTls(Checked, HTTPSConnection):
        """The same over TLS."""

    return {"http": Checked, "https": CheckedTls}


def refused(verb: str, reference: BlobReference, answer: Any) -> NoReturn:
    """Raise what an answer means that gives no blob, or takes none.

    :param verb: ``read`` or ``written``.
    :param reference: of the blob.
    :param answer: of its host.
    """
    status = answer.status_code
    is_away = error_class(status) is ServiceUnavailable
    detail = "BlobNotFound" if status == 404 else "NoMoreResources" if is_away else "InvalidBlob"
    code = re.fullmatch(r"[A-Za-z]{1,60}", answer.headers.get(ERROR_CODE_HEADER, ""))
    reason = f" ({code.group()})" if code else ""
    advice = ""
    if status in (401, 403):
        right = {"read": "reading", "written": "creating and writing"}[verb]
        advice = f" Its SAS token does not open it: sign a new one for this very blob, for {right}."
    raise rejection(
        detail, f"{reference.location!r} cannot be {verb}: its host answered HTTP {status}{reason}.{advice}"
    )


def check_end(reference: BlobReference, headers: Mapping[str, str]) -> None:
    """Refuse an answer that may not have come whole: cut at the end of a row, it would be trained on.

    :param reference: of the blob.
    :param headers: of the answer.
    """
    if "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", ""):
        raise rejection("BlobNotFound", f"{reference.location!r} cannot be read: its host does not say how long it is.")


def unreachable(verb: str, reference: BlobReference, error: Any) -> NoReturn:
    """Raise what it means that there is no answer.

    :param verb: ``read`` or ``written``.
    :param reference: of the blob.
    :param error: of the library.
    """
    reason = f"{reference.location!r} cannot be {verb}: {type(error).__name__}."
    raise rejection("BlobNotFound" if leads_nowhere(error) else "NoMoreResources", reason) from None


def leads_nowhere(error: BaseException) -> bool:
    """Whether the name of a host leads nowhere: that is the mistake of whoever gave it, while a host that is there and
    does not answer is away for a while.

    :param error: of a library that asks through :func:`session`, in whose text that of urllib3 stands.
    """
    return "Failed to resolve" in str(error)
