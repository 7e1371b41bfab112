"""A page in Airflow's own UI: the endpoints of a connection, how fresh they are, and which run updated each.

Every process of Airflow imports this module, so what the page needs, which is heavy, is imported by the first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk.configuration import conf
from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_provider_azureml_classic.plugin.app import make_app

#: Below Airflow's own address.
PREFIX = "/azureml-classic"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LazyApp:
    """The page's ASGI application, made by its first request."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        :param scope: of ASGI; likewise the other two.
        """
        if self._app is None:
            self._app = make_app()
        await self._app(scope, receive, send)


def base_path() -> str:
    """What stands before :data:`PREFIX` where Airflow runs below a path."""
    return urlsplit(str(conf.get("api", "base_url", fallback=""))).path.rstrip("/")


_DEADLINE_REFERENCES: list[Any] = []
_PARTITION_MAPPERS: list[Any] = []
# Airflow before 3.3 has neither, and no DAG that could name ours.
with suppress(ImportError):
    from airflow_provider_azureml_classic.scheduling.deadlines import WindowEnd

    _DEADLINE_REFERENCES.append(WindowEnd)
with suppress(ImportError):
    from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints

    _PARTITION_MAPPERS.append(OnlyEndpoints)


class AzureMLClassicPlugin(AirflowPlugin):
    """What Airflow reads: an application, a view that shows it, and what DAGs may name that its processes must know."""

    name = "azureml_classic"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "Azure ML Studio (classic)"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Model endpoints",
            "href": f"{base_path()}{PREFIX}/",
            "destination": "nav",
            "category": "browse",
            "url_route": "azureml-classic-endpoints",
            "icon": f"{base_path()}{PREFIX}/icon.svg",
        }
    ]
    deadline_references = _DEADLINE_REFERENCES
    partition_mappers = _PARTITION_MAPPERS
