"""Where a customer's model is trained, and where his files lie."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.customers import find_trainer, folder_of, model_place, own_place
from airflow_provider_azureml_classic.retraining.freshness import Window
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()
SHARED, APART = Endpoint("default"), Endpoint("store7", folder="f-store7")


@pytest.mark.parametrize(
    ("first", "named", "customer", "asked"),
    [
        (SHARED, None, "store7", ["default"]),
        (APART, None, "store7", ["default", "store7"]),
        (APART, None, None, ["default"]),
        (APART, "mine", "store7", ["mine"]),
        (APART, "", "store7", [""]),
    ],
)
def test_the_endpoint_that_trains(first: Endpoint, named: str | None, customer: str | None, asked: list[str]) -> None:
    """The one that is named; else the default one, or the customer's own where each has a folder."""
    own = Endpoint("own")
    script = Script(get_endpoint=[first, own])
    assert script.perform(find_trainer(CLIENT, "s", named, customer)) is (own if len(asked) > 1 else first)
    assert script.calls == [("get_endpoint", {"service_id": "s", "name": name}) for name in asked]


@pytest.mark.parametrize(
    ("value", "shared", "apart"),
    [
        ("{folder}/a/{folder}.csv", "customers/store7/a/{folder}.csv", "f-store7/a/{folder}.csv"),
        ("a/{folder}/b.csv", "a/{folder}/b.csv", "a/{folder}/b.csv"),
        ("{folder}x/b.csv", "{folder}x/b.csv", "{folder}x/b.csv"),
        (5, 5, 5),
    ],
)
def test_a_place_in_the_folder(value: Any, shared: Any, apart: Any) -> None:
    """It begins with the folder, which the service gives, or which is named after the customer."""
    assert (own_place(value, SHARED, "store7"), own_place(value, APART, "store7")) == (shared, apart)
    assert (folder_of(SHARED, "store7"), folder_of(APART, "store8")) == ("customers/store7", "f-store7")


def test_where_a_model_is_put() -> None:
    """In the folder, where there is one; a template of the user's own counts before."""
    window = Window(datetime(2026, 3, 1, tzinfo=UTC))
    shared, apart = (model_place(one, "s", "store7", window) for one in (SHARED, APART))
    assert shared.split("/")[:3] == ["models", "s", "store7"]
    assert apart.split("/")[:4] == ["f-store7", "models", "s", "store7"]
    assert shared.split("/")[3].startswith("20260301T000000Z")
    own = "{folder}/{service}/{endpoint}/{window_end}"
    assert model_place(SHARED, "s", "store7", window, own) == "customers/store7/s/store7/20260301T000000Z"
    assert model_place(APART, "s", "store7", window, own) == "f-store7/s/store7/20260301T000000Z"
