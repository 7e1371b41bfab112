"""How long a body may take, and how much of all bodies is held at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Seconds without a byte of the body.
GAP_SECONDS = 30.0
#: Bytes a second that a body must bring in the long run; the first :data:`GAP_SECONDS` are free.
SLOWEST = 1024
#: A body up to this size is always read, one over it only while all of these together hold less than the second.
SMALL_BODY = 64 << 10
MAX_HELD = 256 << 20


class Patience:
    """Reads a request's messages, and waits for its client no longer than is fair.

    :param receive: of the request.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received = 0
        self._waited = 0.0
        self._complete = False

    async def __call__(self) -> MutableMapping[str, Any]:
        """The next message.

        :raises ServiceUnavailable: ``RequestTimeout`` (408).
        """
        if self._complete:
            # What comes now is only the news that the client has left.
            return await self._receive()
        clock = asyncio.get_running_loop().time
        before = clock()
        left = GAP_SECONDS + self._received / SLOWEST - self._waited
        try:
            async with asyncio.timeout(max(0.0, min(GAP_SECONDS, left))):
                message = await self._receive()
        except TimeoutError:
            raise rejection("RequestTimeout", "The body of the request came too slowly, or not at all.") from None
        self._waited += clock() - before
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body")
        return message


class Budget:
    """Memory for bodies that are held whole, shared by all connections."""

    def __init__(self) -> None:
        self._held = 0

    def take(self, size: int) -> None:
        """Take some.

        :param size: bytes.
        :raises ServiceUnavailable: ``NoMoreResources``: there is no more.
        """
        if self._held + size > MAX_HELD:
            raise _no_more()
        self._held += size

    def give_back(self, size: int) -> None:
        """Give back what was taken.

        :param size: bytes.
        """
        self._held -= size


def _no_more() -> AzureMLClassicError:
    return rejection("NoMoreResources", "Too many large requests are on their way; try again later.")
