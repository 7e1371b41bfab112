"""One request, matched to its operation: the key that it presents, and its decoded body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.exceptions import cause, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.keys import bearer
from airflow_provider_azureml_classic.server.web import json_body as json_text

_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd", "compress"})


@dataclass(frozen=True)
class Call:
    """One request, matched to its operation.

    :param operation: what is asked.
    :param segments: decoded values of its path.
    :param query: first value of each query parameter, by its name in lower case.
    :param headers: names in lower case.
    :param body: as sent.
    :param request_id: of the answer.
    """

    operation: ops.Operation
    segments: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    request_id: str

    @property
    def key(self) -> str:
        """See :func:`bearer`; what clients of the Studio API send otherwise."""
        authorization = self.headers.get("authorization")
        return self.headers.get(ops.STUDIO_TOKEN, "") if authorization is None else bearer(authorization)

    def json(self) -> Any:
        """The decoded body; its declared charset matters where it is not UTF-8 only, as clients declare odd ones.

        :raises RequestRejected: ``RequestBodyInvalid``, saying where.
        """
        if not self.body.strip():
            raise rejection("RequestBodyInvalid", "The body is empty; it must be a JSON object.")
        # Others are charsets, which old clients write here; and some leave the header of an earlier call.
        compressed = self.headers.get("content-encoding", "").strip().lower() in _COMPRESSED
        if compressed and self.body.lstrip()[:1] not in (b"{", b"["):
            raise rejection("RequestBodyInvalid", "Compressed bodies are not read: send it without Content-Encoding.")
        try:
            return json_text.read(self.body, self.headers.get("content-type", ""))
        except UnicodeEncodeError:
            raise rejection(
                "RequestBodyInvalid",
                "The body has half of a surrogate pair (\\ud800 to \\udfff), which is not a character.",
            ) from None
        except UnicodeError:
            raise rejection(
                "RequestBodyInvalid", "The body is not UTF-8 text, nor text in the charset of its Content-Type."
            ) from None
        except RecursionError:
            raise rejection("RequestBodyInvalid", "The body is nested too deeply.") from None
        except ValueError as error:
            raise rejection("RequestBodyInvalid", f"The body is not JSON: {cause(error)}.") from None
