"""The asynchronous client: one ``aiohttp`` session for all clients of an event loop.

Why shared: with a session each, 1,000 waits that look every 30 s over TLS shake hands at each look, and each keeps a
connection of its own, which is 0.3 MB: three times the processor time and twenty times the memory (``make bench
ROWS=waiting``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

from airflow_provider_azureml_classic.client.blocking import no_answer
from airflow_provider_azureml_classic.client.integrity import Body, whole
from airflow_provider_azureml_classic.client.retries import Outcome, Pause, Program, RetryPolicy, Steps, persevere
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.messages import Request, Response

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

#: Connections open at a time to all hosts together; further requests wait for one. Over TLS each is 0.3 MB, mostly
#: asyncio's buffer, and aiohttp uses them in turn, so that a burst would keep many open. 5,000 looks in 30 s need 32 if
#: each takes 0.2 s.
MAX_CONNECTIONS = 32
#: A body of more bytes is sent in pieces.
_LARGE = 256 << 10


class SharedSession:
    """An ``aiohttp`` session of one event loop, closed when its last user leaves.

    :param verify: check certificates; or a path to a bundle of certificates.
    """

    _open: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[bool | str, SharedSession]]] = WeakKeyDictionary()

    def __init__(self, verify: bool | str) -> None:
        self.verify = verify
        self.users = 0
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def join(cls, verify: bool | str) -> SharedSession:
        """The session of the running loop, with one more user.

        :param verify: see the class.
        """
        of_loop = cls._open.setdefault(asyncio.get_running_loop(), {})
        shared = of_loop.setdefault(verify, cls(verify))
        shared.users += 1
        return shared

    async def leave(self) -> None:
        """One user less; the last one closes the connections."""
        self.users -= 1
        if self.users == 0:
            self._open.get(asyncio.get_running_loop(), {}).pop(self.verify, None)
            session, self._session = self._session, None
            if session is not None:
                await session.close()

    async def send(self, request: Request) -> Response:
        """Send and wait.

        :param request: what to send.
        :raises ServiceUnavailable: no whole answer.
        """
        import aiohttp

        session = self._session = self._session or self._connect()
        try:
            async with session.request(
                request.operation.method,
                # Locations are already encoded; encoding a SAS token again would break its signature.
                _as_is(request.url),
                data=_payload(request.body),
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=request.timeout),
                allow_redirects=False,
                # It would call an empty body `application/octet-stream`.
                skip_auto_headers=("content-type",),
            ) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = Body(request, headers)
                async for piece in answer.content.iter_any():
                    body.add(piece)
                return whole(request, Response(answer.status, headers, body.content))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise no_answer(request, error) from None

    def _connect(self) -> aiohttp.ClientSession:
        import ssl

        import aiohttp

        trust: ssl.SSLContext | bool = self.verify is not False
        if isinstance(self.verify, str):
            trust = ssl.create_default_context(cafile=self.verify)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, ssl=trust), cookie_jar=aiohttp.DummyCookieJar()
        )


def _payload(body: bytes) -> Any:
    # Of a file aiohttp sends one piece after another; of many bytes all at once, which would stall the other waits.
    return BytesIO(body) if len(body) > _LARGE else body or None


def _as_is(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


class AsyncClient(Verbs):
    """Asynchronous client of one workspace: ``async with AsyncClient(...) as client``.

    :param retries: when idempotent calls are repeated.
    :param verify: check the server's certificate; or a path to a bundle of certificates.
    :param options: see :class:`~airflow_provider_azureml_classic.client.verbs.Verbs`.
    """

    def __init__(
        self, *args: Any, retries: RetryPolicy | None = None, verify: bool | str = True, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._retries = retries or RetryPolicy()
        self._verify = verify
        self._shared: SharedSession | None = None

    async def drive(self, steps: Steps[T]) -> T:
        """Run a verb to its end.

        :param steps: the verb.
        """
        if self._shared is None:
            raise RuntimeError("AsyncClient is not open: use it as `async with AsyncClient(...) as client`")
        commands = persevere(steps, self._retries)
        outcome: Outcome | None = None
        try:
            while True:
                command = commands.send(outcome)
                outcome = None
                if isinstance(command, Pause):
                    await asyncio.sleep(command.seconds)
                    continue
                try:
                    outcome = await self._shared.send(command)
                except ServiceUnavailable as error:
                    outcome = error
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def perform(self, program: Program[T]) -> T:
        """Run several verbs in a row.

        :param program: yields verbs and pauses.
        """
        answer: Any = None
        error: AzureMLClassicError | None = None
        try:
            while True:
                command = program.throw(error) if error else program.send(answer)
                answer = error = None
                if isinstance(command, Pause):
                    await asyncio.sleep(command.seconds)
                    continue
                if isinstance(command, Awaitable):
                    answer = await command
                    continue
                try:
                    answer = await self.drive(command)
                except AzureMLClassicError as raised:
                    error = raised
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def __aenter__(self) -> AsyncClient:
        self._shared = SharedSession.join(self._verify)
        return self

    async def __aexit__(self, *exc: object) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.leave()
