"""Lists in pages: our additions to the protocol.

The calls for web services and for endpoints are those of the cloud service, which gives all of them. With ``limit``
they give so many, oldest first, and name in a header what to ask for as ``after`` to get the next ones. A service that
does not know the parameter gives all, and no header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlencode

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ProtocolError, rejection

#: Query parameters: the most that are wanted, and where the page before ended, in lists whose first entry is the oldest
#: and in those whose first one is the newest.
LIMIT_PARAMETER, AFTER_PARAMETER, BEFORE_PARAMETER = "limit", "after", "before"
#: Header of the answer, where there are more.
NEXT = "x-azureml-classic-next"
#: Web services, endpoints or files of a page, at most.
MAX_PAGE = 1_000
#: Pages that a client reads before it takes a list for endless.
MOST_PAGES = 1_000
_LONGEST = 4_000
# Every database takes such a number.
_MOST_DIGITS = 9


@dataclass(frozen=True)
class Place:
    """Where a page ends.

    :param created_at: of its last entry.
    :param name: of its last entry.
    """

    created_at: datetime
    name: str

    def to_wire(self) -> str:
        """As the next page is asked for."""
        # It travels in a header, and names of web services may have any letters.
        return f"{self.created_at.astimezone(UTC).replace(tzinfo=None).isoformat()}~{quote(self.name)}"

    @classmethod
    def from_wire(cls, text: str) -> Place:
        """The place that :meth:`to_wire` wrote.

        :param text: of the query.
        :raises RequestRejected: ``InvalidQueryParameter``.
        """
        moment, _, name = text.partition("~")
        try:
            if len(text) > _LONGEST:
                raise ValueError
            place = cls(datetime.fromisoformat(moment).replace(tzinfo=UTC), unquote(name))
            # Only as it was written; and no database takes a zero in a text.
            if place.to_wire() != text or "\0" in place.name:
                raise ValueError
            return place
        except ValueError:
            raise _wrong(AFTER_PARAMETER, text, f"what the header {NEXT} of the page before says") from None


def page_asked(query: Mapping[str, str]) -> tuple[int, Place | None] | None:
    """How many entries are wanted, and after which place; ``None``: all.

    :param query: of the call.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    limit, after = query.get(LIMIT_PARAMETER), query.get(AFTER_PARAMETER)
    if limit is None and after is None:
        return None
    return limit_of(limit, MAX_PAGE, MAX_PAGE), None if after is None else Place.from_wire(after)


def limit_of(text: str | None, usual: int, most: int) -> int:
    """How many entries of a list are wanted.

    :param text: of the query, if it is there.
    :param usual: if it is not.
    :param most: that may be asked for.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    if text is None:
        return usual
    if not _is_number(text) or not 1 <= int(text) <= most:
        raise _wrong(LIMIT_PARAMETER, text, f"a number from 1 to {most}")
    return int(text)


def read_before(text: str | None) -> int | None:
    """The number of the entry after which the page before ended.

    :param text: of the query, if it is there.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    if text is None:
        return None
    if not _is_number(text):
        raise _wrong(BEFORE_PARAMETER, text, "the Next of the page before")
    return int(text)


def entries_of(data: Any, member: str, what: str) -> tuple[list[Any], Any]:
    """The entries of a page, and what it says of where the next one begins.

    :param data: decoded JSON.
    :param member: that holds the entries.
    :param what: the answer should have been, for the message.
    :raises ProtocolError: it is no page.
    """
    items = data.get(member) if isinstance(data, Mapping) else None
    if not isinstance(items, list):
        raise ProtocolError(f"The answer is not {what}.")
    return items, data.get("Next")


def page_query(after: str | None) -> str:
    """The query of a page.

    :param after: what the page before named; ``None``: this is the first.
    """
    return urlencode({LIMIT_PARAMETER: MAX_PAGE, **({} if after is None else {AFTER_PARAMETER: after})})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def _wrong(name: str, text: str, expected: str) -> AzureMLClassicError:
    return rejection("InvalidQueryParameter", f"{name} is {text[:40]!r}; it must be {expected}.", target=name)
