"""The list of a web service's endpoints in pages: our addition to the protocol.

The call is that of the cloud service, which gives all of them. With ``limit`` it gives so many, oldest first, and names
in a header what to ask for as ``after`` to get the next ones. A service that does not know the parameter gives all, and
no header.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection

#: Query parameters: the most that are wanted, and where the page before ended.
LIMIT_PARAMETER, AFTER_PARAMETER = "limit", "after"
#: Header of the answer, where there are more.
NEXT = "x-azureml-classic-next"
#: Endpoints of a page, at most.
MAX_PAGE = 1_000
#: Pages that a client reads before it takes a list for endless.
MOST_PAGES = 1_000
_LONGEST = 100


@dataclass(frozen=True)
class Place:
    """Where a page ends.

    :param created_at: of its last endpoint.
    :param name: of its last endpoint.
    """

    created_at: datetime
    name: str

    def to_wire(self) -> str:
        """As the next page is asked for."""
        return f"{self.created_at.astimezone(UTC).replace(tzinfo=None).isoformat()}~{self.name}"

    @classmethod
    def from_wire(cls, text: str) -> Place:
        """The place that :meth:`to_wire` wrote.

        :param text: of the query.
        :raises RequestRejected: ``InvalidQueryParameter``.
        """
        moment, mark, name = text.partition("~")
        try:
            if not mark or len(text) > _LONGEST:
                raise ValueError
            return cls(datetime.fromisoformat(moment).replace(tzinfo=UTC), name)
        except ValueError:
            raise _wrong(AFTER_PARAMETER, text, f"what the header {NEXT} of the page before says") from None


def page_asked(query: Mapping[str, str]) -> tuple[int, Place | None] | None:
    """How many endpoints are wanted, and after which place; ``None``: all.

    :param query: of the call.
    :raises RequestRejected: ``InvalidQueryParameter``.
    """
    limit, after = query.get(LIMIT_PARAMETER), query.get(AFTER_PARAMETER)
    if limit is None and after is None:
        return None
    text = str(MAX_PAGE) if limit is None else limit
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= MAX_PAGE:
        raise _wrong(LIMIT_PARAMETER, text, f"a number from 1 to {MAX_PAGE}")
    return int(text), None if after is None else Place.from_wire(after)


def page_query(after: str | None) -> str:
    """The query of a page.

    :param after: what the page before named; ``None``: this is the first.
    """
    return urlencode({LIMIT_PARAMETER: MAX_PAGE, **({} if after is None else {AFTER_PARAMETER: after})})


def _wrong(name: str, text: str, expected: str) -> AzureMLClassicError:
    return rejection("InvalidQueryParameter", f"{name} is {text[:40]!r}; it must be {expected}.", target=name)
