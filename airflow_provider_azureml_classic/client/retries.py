"""When a call is repeated, decided once for both clients.

A verb yields requests; :func:`persevere` stands between it and the transport, and yields requests or pauses. Only
calls that the operations table marks idempotent are repeated, so a submission is never sent twice.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable, without_query
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.operations import IF_MATCH, RETRY_AFTER

T = TypeVar("T")
#: A verb under way: yields requests, is sent responses, returns its result.
Steps = Generator[Request, Response, T]

#: Several verbs in a row: yields the steps of a verb, is sent its result or thrown its error; or yields a pause. Both
#: clients run it with ``perform``, so that what takes several calls is written once, too. What can be awaited is
#: for the asynchronous client only.
Program = Generator["Steps[Any] | Pause | Awaitable[Any]", Any, T]

_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Pause:
    """Sleep before the next request.

    :param seconds: how long.
    """

    seconds: float


def jittered(seconds: float) -> float:
    """``seconds`` give or take a tenth, so that many waits do not ask at the same moment.

    :param seconds: a pause.
    """
    return seconds * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, no secret


@dataclass(frozen=True)
class RetryPolicy:
    """Jittered exponential back-off.

    :param attempts: calls in all, the first included.
    :param base: upper bound of the first pause in seconds; it doubles each time.
    :param cap: upper bound of any pause in seconds, ``Retry-After`` included.
    """

    attempts: int = 4
    base: float = 0.5
    cap: float = 20.0

    def pause(self, attempt: int, outcome: Response | ServiceUnavailable) -> Pause:
        """How long to wait after attempt number ``attempt`` (from 1).

        :param attempt: attempts made so far.
        :param outcome: what the last one gave; its ``Retry-After`` is a lower bound.
        """
        bound = min(self.cap, self.base * 2 ** (attempt - 1))
        header = outcome.headers.get(RETRY_AFTER, "") if isinstance(outcome, Response) else ""
        retry_after = float(header) if header.isascii() and header.isdigit() else 0.0
        return Pause(min(self.cap, retry_after + random.uniform(bound / 2, bound)))  # noqa: S311 - jitter, no secret


NO_RETRIES = RetryPolicy(attempts=1)

#: What is sent back for a request: the response, or the error that says there was none.
Outcome = Response | ServiceUnavailable
Commands = Generator[Request | Pause, Outcome | None, T]


def persevere(steps: Steps[T], policy: RetryPolicy) -> Commands[T]:
    """Run a verb, repeating what may be repeated.

    :param steps: the verb.
    :param policy: how often and how fast.
    :return: a generator of requests to send (send back the outcome) and pauses to make (send back ``None``).
    """
    request: Request | None = None
    try:
        request = next(steps)
        while True:
            outcome = yield from _attempts(request, policy)
            request = steps.send(outcome) if isinstance(outcome, Response) else steps.throw(outcome)
    except StopIteration as stop:
        result: T = stop.value
        return result
    except AzureMLClassicError as error:
        if error.verb is None and request is not None:
            # What reads an answer does not know what was asked.
            error.verb, error.url = request.operation.name, without_query(request.url)
        raise


def _is_repeatable(request: Request) -> bool:
    # A conditional PATCH whose answer was lost would be refused the second time because of its own first one.
    return request.operation.idempotent and IF_MATCH not in request.headers


def _attempts(request: Request, policy: RetryPolicy) -> Commands[Outcome]:
    for attempt in range(1, policy.attempts + 1):
        outcome = yield request
        if outcome is None:
            raise TypeError("a request must be answered with its outcome")
        failed = not isinstance(outcome, Response) or outcome.status in _TRY_AGAIN
        if attempt > 1 and request.operation.method == "DELETE" and outcome.status == 404:
            # The first call, whose answer was lost, has done it.
            return Response(204)
        if not failed or not _is_repeatable(request) or attempt == policy.attempts:
            return outcome
        yield policy.pause(attempt, outcome)
    raise AssertionError("unreachable: attempts is at least 1")
