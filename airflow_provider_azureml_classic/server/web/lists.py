"""Lists of the cloud service's own calls: in pages for who asks so, else whole, and sent while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from airflow_provider_azureml_classic.protocol.messages import JSON_TYPE, Response
from airflow_provider_azureml_classic.protocol.pages import MAX_PAGE, NEXT, Place, page_asked
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.server.web import json_body

#: Gives entries of a list, so many and from where on; also where they end if there are more.
Pages = Callable[[int, Place | None], tuple[Sequence[Endpoint | WebService], Place | None]]


def listed(query: Mapping[str, str], pages: Pages) -> Response:
    """A page of a list, or all: where they are more than a page, the answer is sent while they are read.

    :param query: of the call.
    :param pages: gives the entries.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    asked = page_asked(query)
    entries, following = pages(*(asked or (MAX_PAGE, None)))
    text = _written(entries)
    if following is None or asked:
        return Response(200, {**JSON_TYPE, **({NEXT: following.to_wire()} if following else {})}, text)
    return Response(200, JSON_TYPE, parts=_every(pages, text, following))


def _every(pages: Pages, first: bytes, following: Place | None) -> Iterator[bytes]:
    yield first[:-1]
    while following is not None:
        entries, following = pages(MAX_PAGE, following)
        # The last one may have been deleted meanwhile.
        text = _written(entries)[1:-1]
        yield b"," + text if text else b""
    yield b"]"


def _written(entries: Sequence[Endpoint | WebService]) -> bytes:
    return json_body.write([entry.to_wire() for entry in entries])
