"""Endpoints that gates make for themselves, where a service cannot be asked for the answers of a model file.

One is named after its gate's task instance, so that the next attempt takes it up again. It is removed when the gate has
its figures; one that was left behind, by the next gate a day later. Its description says when it was last taken up.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import NotFound
from airflow_provider_azureml_classic.protocol.moments import read_time, stamp
from airflow_provider_azureml_classic.protocol.values import (
    CHECK_DIGITS,
    CHECK_PREFIX,
    Endpoint,
    EndpointSettings,
    is_check_endpoint,
)

_TAKEN_UP = "Made by a gate to try a model out; taken up at "
#: After so long nobody takes one up again.
_LEFT = timedelta(days=1)


def check_endpoint_name(*task: object) -> str:
    """The name of the check endpoint of a task instance: the same in each of its attempts.

    :param task: what identifies it.
    """
    digest = hashlib.sha256("\0".join(map(str, task)).encode()).hexdigest()
    return f"{CHECK_PREFIX}{digest[:CHECK_DIGITS]}"


def taken_up(client: Verbs, service_id: str, name: str, now: datetime) -> Program[Endpoint]:
    """A check endpoint, added if it is not there; those that were left behind are removed.

    :param client: of the workspace.
    :param service_id: of the scoring web service.
    :param name: see :func:`check_endpoint_name`.
    :param now: the present time.
    """
    endpoints: list[Endpoint] = yield Verbs.list_endpoints.steps(client, service_id)
    for endpoint in endpoints:
        if endpoint.name != name and is_check_endpoint(endpoint.name) and _is_left(endpoint, now):
            yield from removed(client, service_id, endpoint.name)
    settings = EndpointSettings(description=f"{_TAKEN_UP}{stamp(now)}")
    added: Endpoint = yield Verbs.add_endpoint.steps(client, service_id, name, settings)
    return added


def removed(client: Verbs, service_id: str, name: str) -> Program[None]:
    """Remove a check endpoint; one that is gone is gone.

    :param client: of the workspace.
    :param service_id: of the scoring web service.
    :param name: of the endpoint.
    """
    try:
        yield Verbs.delete_endpoint.steps(client, service_id, name)
    except NotFound:
        # Another gate was quicker.
        return


def _is_left(endpoint: Endpoint, now: datetime) -> bool:
    text = endpoint.description or ""
    moment = read_time(text.removeprefix(_TAKEN_UP)) if text.startswith(_TAKEN_UP) else None
    # Whose description somebody has changed is somebody's.
    return moment is not None and now - moment > _LEFT
