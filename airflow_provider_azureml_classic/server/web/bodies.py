"""How long a body may take, and how much of all bodies is held at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

#: Seconds without a byte of the body.
GAP_SECONDS = 30.0
#: Bytes a second that a body must bring in the long run; the first :data:`GAP_SECONDS` are free.
SLOWEST = 1024
#: What a refused request still sends is read up to this size, in this time, and while it comes without such a gap.
MAX_DROPPED = 64 << 20
DROP_SECONDS, DROP_GAP_SECONDS = 30.0, 2.0
#: A body up to this size is always read, one over it only while all of these together hold less than the second.
SMALL_BODY = 64 << 10
MAX_HELD = 256 << 20
#: Larger ones that are decoded and answered at a time, in bytes of all together: JSON becomes up to 40 times as much,
#: and decoding it holds the interpreter's lock, so that several of the largest at a time are no faster, while the event
#: loop gets one turn in as many. The others wait theirs, in seconds, in the order in which they came.
MAX_DECODED = 4 << 20
LONGEST_TURN = 10.0


class BodyReader:
    """Reads the messages of a request's body, and waits for its client no longer than is fair.

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
        seconds = GAP_SECONDS + self._received / SLOWEST - self._waited
        try:
            async with asyncio.timeout(max(0.0, min(GAP_SECONDS, seconds))):
                message = await self._receive()
        except TimeoutError:
            raise rejection("RequestTimeout", "The body of the request came too slowly, or not at all.") from None
        self._waited += clock() - before
        self._received += len(message.get("body", b""))
        self._complete = not message.get("more_body")
        return message

    async def drop_rest(self) -> None:
        """Read what a refused request still sends, and keep none of it.

        A connection that is closed with bytes unread is reset. Clients that send all before they read (``urllib``,
        ``HttpClient``) would then see a broken connection and never the answer.
        """
        dropped = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(DROP_SECONDS):
                while not self._complete and dropped < MAX_DROPPED:
                    async with asyncio.timeout(DROP_GAP_SECONDS):
                        message = await self._receive()
                    dropped += len(message.get("body", b""))
                    self._complete = not message.get("more_body")


class Budget:
    """Memory for bodies that are held whole, shared by all connections."""

    def __init__(self) -> None:
        self.held = 0

    def share(self) -> Share:
        """The share of one request, empty yet."""
        return Share(self)


class Share:
    """What one request holds; small bodies do not count.

    :param budget: what all may hold.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._size = 0

    def hold(self, size: int) -> None:
        """Count the body as it is now.

        :param size: bytes in all.
        :raises ServiceUnavailable: ``NoMoreResources``: there is no more.
        """
        if size <= SMALL_BODY:
            return
        if self._budget.held + size - self._size > MAX_HELD:
            raise _no_more()
        self._budget.held += size - self._size
        self._size = size

    def release(self) -> None:
        """The request is answered."""
        self._budget.held -= self._size
        self._size = 0


class Turns:
    """Which bodies may be decoded now, so that what is made of them has a bound; small ones always may."""

    def __init__(self) -> None:
        self.size = 0
        self._freed = asyncio.Event()
        # Without a queue, those that are not quite so large would always come first.
        self._queue = asyncio.Lock()

    async def begin(self, size: int) -> None:
        """Wait until a body may be decoded; :meth:`end` must follow.

        :param size: of the body, in bytes.
        :raises ServiceUnavailable: ``NoMoreResources``: it waited too long.
        """
        if size <= SMALL_BODY:
            return
        try:
            async with asyncio.timeout(LONGEST_TURN), self._queue:
                while self.size + size > MAX_DECODED:
                    self._freed.clear()
                    await self._freed.wait()
                self.size += size
        except TimeoutError:
            raise _no_more() from None

    def end(self, size: int) -> None:
        """The request is answered.

        :param size: of its body.
        """
        if size > SMALL_BODY:
            self.size -= size
            self._freed.set()


def _no_more() -> AzureMLClassicError:
    return rejection("NoMoreResources", "Too many large requests are on their way; try again later.")
