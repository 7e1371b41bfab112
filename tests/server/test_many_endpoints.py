"""Many endpoints: the same rules as for a few, and no call that grows with their number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.server import tables
from airflow_provider_azureml_classic.server import workspace as workspace_module
from tests.server.conftest import Service

COUNT = 500


@pytest.mark.slow
def test_five_hundred_endpoints_are_as_one(service: Service) -> None:
    """Added by several at once: all are listed once, with keys of their own, and score; one changes, no other does."""
    names = [f"customer{number:03}" for number in range(COUNT)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: service.client.add_endpoint(service.scoring, name), names))
    listed = {endpoint.name: endpoint for endpoint in service.client.list_endpoints(service.scoring)}
    assert sorted(listed) == sorted([*names, "default"])
    keys = {key for endpoint in listed.values() for key in (endpoint.primary_key, endpoint.secondary_key)}
    assert len(keys) == 2 * (COUNT + 1)
    assert service.patch(names[7], service.put_blob("models/own.ilearner", service.read_blob("models/ten.ilearner")))
    assert [service.slope(listed[name]) for name in (names[6], names[7], names[8])] == [2, 10, 2]
    (scoring,) = (one for one in service.client.list_web_services() if one.id == service.scoring)
    assert scoring.endpoint_count == COUNT + 1


def test_the_limit_of_endpoints_holds(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many is refused; an existing one may still be changed."""
    monkeypatch.setattr(workspace_module, "MAX_ENDPOINTS", 2)
    assert service.ask("PUT", service.endpoint_path("second"), {}).status == 201
    refused = service.ask("PUT", service.endpoint_path("third"), {})
    assert (refused.status, b"EndpointLimitReached" in refused.body) == (400, True)
    assert service.ask("PUT", service.endpoint_path("second"), {"Description": "x"}).status == 200


def test_an_unknown_name_is_told_with_a_few_others(service: Service) -> None:
    """The message names ten endpoints and counts the rest, without reading them."""
    for number in range(12):
        service.client.add_endpoint(service.scoring, f"e{number:02}")
    said = service.ask("GET", service.endpoint_path("nothing")).body.decode()
    assert "default, e00, e01, e02, e03, e04, e05, e06, e07, e08 and 3 more." in said


ENDPOINTS, KEYS = tables.endpoints.c, tables.keys.c


@pytest.mark.parametrize(
    "query",
    [
        sa.select(tables.endpoints).where(ENDPOINTS.id == "x"),
        sa.select(tables.endpoints).where(
            ENDPOINTS.service_id == "x", sa.or_(ENDPOINTS.name == "x", ENDPOINTS.id == "x")
        ),
        sa.select(tables.endpoints).where(ENDPOINTS.service_id == "x"),
        sa.select(sa.func.count()).where(ENDPOINTS.service_id == "x"),
        sa.select(ENDPOINTS.name).where(ENDPOINTS.service_id == "x").order_by(ENDPOINTS.name).limit(10),
        sa.select(KEYS.endpoint_id).where(KEYS.hash == "x"),
        sa.select(tables.resources).where(tables.resources.c.endpoint_id == "x"),
        sa.select(tables.jobs).where(tables.jobs.c.endpoint_id == "x"),
        sa.select(tables.jobs).where(tables.jobs.c.status == "x"),
    ],
    ids=str,
)
def test_every_query_has_an_index(query: sa.Select) -> None:
    """No question that a call asks reads a whole table."""
    engine = sa.create_engine("sqlite://")
    tables.metadata.create_all(engine)
    text = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.connect() as connection:
        plan = [row[-1] for row in connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}"))]
    assert not [step for step in plan if step.startswith("SCAN")], plan
