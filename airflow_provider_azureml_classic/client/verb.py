"""The decorator that makes one generator method a verb of both clients."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from airflow_provider_azureml_classic.client.retries import Steps

P = ParamSpec("P")
T = TypeVar("T")


class Blocking(Protocol):
    """A client whose verbs return their result."""

    def drive(self, steps: Steps[T]) -> T:
        """Run a verb.

        :param steps: its requests.
        """


class Asynchronous(Protocol):
    """A client whose verbs return an awaitable of it."""

    async def drive(self, steps: Steps[T]) -> T:
        """Run a verb.

        :param steps: its requests.
        """


class verb(Generic[P, T]):
    """Makes a generator method callable on both kinds of client.

    :param steps: the method, called with the client first.
    """

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self.steps = steps
        self.__doc__ = steps.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> verb[P, T]: ...
    @overload
    def __get__(self, client: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Asynchronous, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self.steps)
        def call(_: object, *args: P.args, **kwargs: P.kwargs) -> Any:
            return client.drive(self.steps(client, *args, **kwargs))

        # Bound, so that `help(client.get_job)` shows the verb's name and parameters.
        return MethodType(call, client)
