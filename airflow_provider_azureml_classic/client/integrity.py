"""Whether an answer came whole.

Rule: an answer that is not whole is no answer. Where the head of one is cut off, HTTP libraries see a good status and
an empty body; what has no length ends wherever the connection does.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from airflow_provider_azureml_classic.exceptions import ProtocolError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.messages import Request, Response

#: A store sends at least one of these with a blob.
_OF_A_STORE = frozenset({"etag", "x-ms-blob-type", "x-ms-version", "content-md5", ops.BLOB_SHA256})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
#: Bytes of an answer, and of a blob, of which our own store takes as many.
MAX_ANSWER, MAX_BLOB = 256 << 20, 5 << 30


def whole(request: Request, response: Response) -> Response:
    """The answer to a request, if it came whole.

    :param request: what was sent.
    :param response: what came.
    :raises ServiceUnavailable: it lacks something of the content that was asked for.
    """
    blob = request.operation is ops.FETCH_BLOB and response.status < 300
    if request.operation.method != "GET" or (response.status != 200 and not blob):
        return response
    # 204 has nothing, 206 a part.
    lack = f"its status is {response.status}" if response.status != 200 else None
    lack = lack or _length_lack(request, response) or _digest_lack(response)
    if lack is None:
        return response
    raise ServiceUnavailable(
        f"The answer is not whole: {lack}",
        verb=request.operation.name,
        url=request.url,
        hint="Try again; if it stays so, look for a proxy between here and the service that changes or cuts answers.",
    )


class Body:
    """The body of an answer as it comes, within a limit: a few bytes may unpack to gigabytes, and some have no end.

    :param request: what was sent.
    :param headers: of the answer, names in lower case.
    """

    def __init__(self, request: Request, headers: Mapping[str, str]) -> None:
        self._request = request
        self._most = MAX_BLOB if request.operation is ops.FETCH_BLOB and not _is_packed(headers) else MAX_ANSWER
        self._size = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Take what has come.

        :param piece: unpacked.
        :raises ProtocolError: that is more than any answer has.
        """
        self._size += len(piece)
        if self._size > self._most:
            raise ProtocolError(
                f"The answer has more than {self._most >> 20:,} MiB",
                verb=self._request.operation.name,
                url=self._request.url,
                hint="Check that the URL of the connection is the service's.",
            )
        self._pieces.append(piece)

    @property
    def content(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)


def _is_packed(headers: Mapping[str, str]) -> bool:
    return headers.get("content-encoding", "identity").lower() != "identity"


def is_sha256(text: str) -> bool:
    """Whether a text is the hex form of a SHA-256.

    :param text: of a header.
    """
    return _SHA256.fullmatch(text) is not None


def has_end(headers: Mapping[str, str]) -> bool:
    """Whether the head of an answer tells where its body ends.

    :param headers: names in lower case.
    """
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()


def _length_lack(request: Request, response: Response) -> str | None:
    length, size = response.headers.get("content-length", ""), len(response.body)
    # What was packed is unpacked by the library, which checks its length.
    if length.isdigit() and not _is_packed(response.headers) and int(length) != size:
        return f"it has {size} of {length} bytes"
    # JSON tells by itself where it ends.
    if not has_end(response.headers) and (request.operation is ops.FETCH_BLOB or not size):
        return f"its head has no length, and {size} bytes came before the connection ended"
    if request.operation is ops.FETCH_BLOB and not size and not _OF_A_STORE.intersection(response.headers):
        return "it is empty, and nothing in its head says that it is of a store"
    return None


def _digest_lack(response: Response) -> str | None:
    sha256, md5 = response.headers.get(ops.BLOB_SHA256, ""), response.headers.get("content-md5", "")
    if is_sha256(sha256) and hashlib.sha256(response.body).hexdigest() != sha256.lower():
        return f"its SHA-256 is not {sha256}, which its head says"
    if md5 and base64.b64encode(hashlib.md5(response.body, usedforsecurity=False).digest()).decode() != md5:
        return f"its MD5 is not {md5}, which its head says"
    return None
