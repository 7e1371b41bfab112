"""Endpoints that gates make for themselves, on a service of canned answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import NotFound
from airflow_provider_azureml_classic.protocol.moments import stamp
from airflow_provider_azureml_classic.protocol.values import Endpoint, EndpointSettings, is_check_endpoint
from airflow_provider_azureml_classic.retraining.check_endpoints import check_endpoint_name, removed, taken_up
from tests.support.programs import Script

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CLIENT: Any = SimpleNamespace()
MADE = "Made by a gate to try a model out; taken up at "


def test_names() -> None:
    """A task instance has one name in each of its attempts, which no other has; it is seen to be a check endpoint's."""
    name = check_endpoint_name("dag", "task", "run", -1)
    assert name == check_endpoint_name("dag", "task", "run", -1)
    # Another version of the package takes the same one up.
    assert name == "gatechecke44236b26b267ec"
    others = [("dag", "task", "run", 1), ("dag", "task", "ru", "n-1"), ("dagt", "ask", "run", -1)]
    assert name not in map(check_endpoint_name, *zip(*others, strict=True))
    assert is_check_endpoint(name)


def left(age: timedelta, description: str = MADE) -> str:
    """What the description of one that was taken up so long ago says."""
    return f"{description}{stamp(NOW - age)}"


@pytest.mark.parametrize(
    ("description", "goes"),
    [
        (left(timedelta(days=1, seconds=1)), True),
        (left(timedelta(days=1)), False),
        (left(timedelta(days=9), "Mine: "), False),
        (left(timedelta(days=9), ""), False),
        (MADE, False),
        ("", False),
        (None, False),
    ],
)
def test_what_was_left_behind(description: str | None, goes: bool) -> None:
    """One that nobody has taken up for more than a day is removed, unless somebody has changed what it says."""
    mine, other = check_endpoint_name(1), check_endpoint_name(2)
    endpoints = [
        Endpoint(mine, description=left(timedelta(days=9))),
        Endpoint("customer", description=left(timedelta())),
    ]
    endpoints.append(Endpoint(other, description=description))
    added = Endpoint(mine)
    script = Script(list_endpoints=[endpoints], delete_endpoint=[None], add_endpoint=[added])
    assert script.perform(taken_up(CLIENT, "service", mine, NOW)) is added
    deletions = [("delete_endpoint", {"service_id": "service", "name": other})] if goes else []
    settings = EndpointSettings(description=left(timedelta()))
    assert script.calls == [
        ("list_endpoints", {"service_id": "service"}),
        *deletions,
        ("add_endpoint", {"service_id": "service", "name": mine, "settings": settings}),
    ]


def test_an_endpoint_of_a_customer_stays() -> None:
    """Whatever its description says."""
    endpoints = [Endpoint("customer", description=left(timedelta(days=9)))]
    script = Script(list_endpoints=[endpoints], add_endpoint=[endpoints[0]])
    script.perform(taken_up(CLIENT, "service", check_endpoint_name(1), NOW))
    assert [name for name, _ in script.calls] == ["list_endpoints", "add_endpoint"]


def test_one_that_is_gone_is_gone() -> None:
    """Another gate was quicker; that is no error."""
    script = Script(delete_endpoint=[NotFound("gone")])
    script.perform(removed(CLIENT, "service", "e"))
    assert script.calls == [("delete_endpoint", {"service_id": "service", "name": "e"})]
