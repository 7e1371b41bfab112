"""The decorator that makes one generator method a verb of both clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from airflow_provider_azureml_classic.client.retries import Steps

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.client.aio import AsyncClient
    from airflow_provider_azureml_classic.client.blocking import Client

P = ParamSpec("P")
T = TypeVar("T")


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
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        return lambda *args, **kwargs: client.drive(self.steps(client, *args, **kwargs))
