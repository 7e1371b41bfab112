"""The blocking client: one pooled ``requests.Session``."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from airflow_provider_azureml_classic.client.integrity import Body, whole
from airflow_provider_azureml_classic.client.retries import Outcome, Pause, Program, RetryPolicy, Steps, persevere
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.protocol.messages import Request, Response, Transport
from airflow_provider_azureml_classic.protocol.secrecy import hide_signatures

T = TypeVar("T")

#: Bytes of an answer that are read at a time.
_PIECE = 1 << 16


class RequestsTransport:
    """Sends requests through one pooled session.

    :param verify: check the server's certificate; or a path to a bundle of certificates.
    :param connect_timeout: seconds allowed for the connection.
    """

    def __init__(self, *, verify: bool | str = True, connect_timeout: float = 10.0) -> None:
        self._verify = verify
        self._connect_timeout = connect_timeout
        self._session: Any = None

    def __call__(self, request: Request) -> Response:
        """Send and wait.

        :param request: what to send.
        :raises ServiceUnavailable: no whole answer; ``status`` is ``None``.
        """
        import requests

        if self._session is None:
            hide_signatures()
            self._session = requests.Session()
            # Otherwise an entry of ~/.netrc for the host would replace the key.
            self._session.auth = lambda prepared: prepared
        try:
            with self._session.request(
                request.operation.method,
                request.url,
                data=request.body or None,
                headers=dict(request.headers),
                timeout=(self._connect_timeout, request.timeout),
                # A redirect would carry the key to another host, and none is part of the protocol.
                allow_redirects=False,
                verify=self._verify,
                stream=True,
            ) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                body = Body(request, headers)
                for piece in answer.iter_content(_PIECE):
                    body.add(piece)
        except requests.RequestException as error:
            raise no_answer(request, error) from None
        return whole(request, Response(answer.status_code, headers, body.content))

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None


def no_answer(request: Request, error: BaseException) -> ServiceUnavailable:
    """The error for a request that was not answered.

    The cause's own text is left out: libraries put the whole URL into it, SAS token included.

    :param request: what was sent.
    :param error: what the library raised.
    """
    hint = "Check that the service runs and that the URL of the connection reaches it."
    if isinstance(error, ssl.SSLError) or "SSL" in type(error).__name__:
        hint = (
            "The service does not answer over TLS there, or its certificate is not trusted: check http or https in the "
            "URL, and trust its authority (verify of the connection, or the variable REQUESTS_CA_BUNDLE)."
        )
    return ServiceUnavailable(
        f"No answer ({type(error).__name__})",
        verb=request.operation.name,
        url=request.url,
        hint=hint,
    )


class Client(Verbs):
    """Blocking client of one workspace; use it as a context manager, or call :meth:`close`.

    :param transport: how requests are sent; a pooled session by default.
    :param retries: when idempotent calls are repeated.
    :param sleep: how pauses are made.
    :param options: see :class:`~airflow_provider_azureml_classic.client.verbs.Verbs`.
    """

    def __init__(
        self,
        *args: Any,
        transport: Transport | None = None,
        retries: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
        verify: bool | str = True,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self._transport = transport or RequestsTransport(verify=verify)
        self._retries = retries or RetryPolicy()
        self._sleep = sleep

    def drive(self, steps: Steps[T]) -> T:
        """Run a verb to its end.

        :param steps: the verb.
        """
        commands = persevere(steps, self._retries)
        outcome: Outcome | None = None
        try:
            while True:
                command = commands.send(outcome)
                outcome = None
                if isinstance(command, Pause):
                    self._sleep(command.seconds)
                    continue
                try:
                    outcome = self._transport(command)
                except ServiceUnavailable as error:
                    outcome = error
        except StopIteration as stop:
            result: T = stop.value
            return result

    def perform(self, program: Program[T]) -> T:
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
                    self._sleep(command.seconds)
                    continue
                if isinstance(command, Awaitable):
                    raise TypeError("a blocking client cannot await")
                try:
                    answer = self.drive(command)
                except AzureMLClassicError as raised:
                    error = raised
        except StopIteration as stop:
            result: T = stop.value
            return result

    def close(self) -> None:
        """Close the connections."""
        close = getattr(self._transport, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
