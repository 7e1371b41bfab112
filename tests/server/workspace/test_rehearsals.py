"""Calls that an endpoint keeps, and what an update would change of their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.rehearsal import MIN_ROWS
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.state import kept_calls as kept_module
from airflow_provider_azureml_classic.server.state.kept_calls import Keeping, KeptCalls
from airflow_provider_azureml_classic.server.state.tables import kept_calls
from airflow_provider_azureml_classic.server.workspace import keeping as keeping_module
from airflow_provider_azureml_classic.server.workspace.keeping import Keeper
from tests.support.portal import Visitor, text_of
from tests.support.service import RESOURCE, Service


def keeper(service: Service) -> Keeper:
    """What keeps the calls of a service."""
    return service.app._scoring.keeper


def keep(service: Service, name: str = "mine", calls: int | None = 1000) -> None:
    """Let an endpoint keep its calls."""
    service.workspace.keep_calls(service.scoring, name, calls)


def ask(service: Service, endpoint: Endpoint, *numbers: Any, headers: dict[str, str] | None = None) -> None:
    """One call of several rows, with a column that is no feature."""
    rows = {"ColumnNames": ["x", "name"], "Values": [[number, f"secret-{number}"] for number in numbers]}
    answer = service.ask(
        "POST",
        service.api_path(endpoint, "/execute"),
        {"Inputs": {"input1": rows}},
        key=endpoint.primary_key,
        headers=headers,
    )
    assert answer.status == 200, answer.body


def last(service: Service, name: str = "mine") -> list[Table]:
    """The kept calls, newest first."""
    row = service.store.endpoint_named(service.scoring, name)
    assert row is not None
    return keeper(service).last(row, "Line")


def rehearse(service: Service, model: str, name: str = "mine", **more: Any) -> dict[str, Any]:
    """The answer of a rehearsal."""
    body = {"Resources": [{"Name": RESOURCE, "Location": {"RelativeLocation": f"models/{model}.ilearner"}}]}
    answer = service.ask("POST", service.endpoint_path(name) + "/rehearse", body, **more)
    assert answer.status == 200, answer.body
    return dict(json.loads(answer.body))


def test_nothing_is_kept_unless_the_owner_wants_it(service: Service, scorer: Endpoint) -> None:
    """Without a declaration and a setting no call is remembered, and a rehearsal says so."""
    ask(service, scorer, 1.0)
    assert last(service) == []
    assert rehearse(service, "ten")["calls"] == 0


def test_the_last_calls_are_kept_as_they_were_decoded(service: Service, scorer: Endpoint) -> None:
    """Values of features before any encoding; other columns, tries of the portal and the proof's calls are not."""
    keep(service, calls=3)
    for number in (1, "2", None, 4):
        ask(service, scorer, number)
    ask(service, scorer, 5, headers={"x-azureml-classic-trial": "1"})
    assert [(table.column_names, [list(row) for row in table.values]) for table in last(service)] == [
        (("x",), [[4]]),
        (("x",), [[None]]),
        (("x",), [["2"]]),
    ]
    ask(service, scorer, 6)
    assert [table.values[0][0] for table in last(service)] == [6, 4, None]


def test_many_rows_of_one_call_are_thinned(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of many rows does not displace all others: rows from all of it are kept."""
    monkeypatch.setattr(keeping_module, "ROWS_A_CALL", 10)
    keep(service)
    ask(service, scorer, *range(95))
    assert [row[0] for row in last(service)[0].values] == list(range(0, 95, 10))


@pytest.mark.slow
def test_they_are_encrypted_and_go_with_the_endpoint(service: Service, scorer: Endpoint) -> None:
    """No cell is in the database in clear; deleting the endpoint, or keeping none, deletes them."""
    keep(service)
    ask(service, scorer, 123454321.5)
    keeper(service).flush()
    files = [path for path in service.settings.data_dir.iterdir() if path.is_file()]
    assert any(b"kept_calls" in path.read_bytes() for path in files)
    assert not any(b"123454321" in path.read_bytes() for path in files)

    def rows() -> int:
        with service.database.read() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(kept_calls)).scalar_one())

    assert rows() == 1
    visitor = Visitor(service)
    visitor.sign_in()
    page = f"/portal/services/{service.scoring}/endpoints/mine"
    assert "1 is kept now, of at most 1,000" in text_of(visitor.page(page))
    assert "those that were are gone" in text_of(visitor.did(f"{page}/do/keep", calls="0"))
    assert rows() == 0
    keep(service)
    ask(service, scorer, 1)
    keeper(service).flush()
    assert rows() == 1
    service.client.delete_endpoint(service.scoring, "mine")
    assert rows() == 0


def test_bounds(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, bytes and number bound what is kept of an endpoint; a deleted one's late calls are dropped."""
    row = service.store.endpoint_named(service.scoring, "mine")
    assert row is not None
    kept, keeping = KeptCalls(service.database), Keeping(20, 30)
    table = Table(("x",), [[1.0]])
    for _ in range(40):
        kept.add(row.id, [table], keeping, service.clock())
        service.clock.advance(hours=1)
    assert 20 <= kept.count(row.id, service.clock()) < 40
    assert len(kept.read(row.id, 20, service.clock())) == 20
    with service.database.read() as connection:
        assert len(connection.execute(sa.select(kept_calls.c.id)).all()) <= 12
    service.clock.advance(days=31)
    assert kept.read(row.id, 20, service.clock()) == []
    kept.expire(service.clock())
    assert kept.endpoints() == []
    monkeypatch.setattr(kept_module, "MAX_BYTES", 200)
    for _ in range(10):
        kept.add(row.id, [table] * 20, keeping, service.clock())
    assert kept.count(row.id, service.clock()) <= 60
    kept.add("nobody", [table], keeping, service.clock())
    assert kept.endpoints() == [row.id]


def test_what_nothing_wants_any_more_is_swept(service: Service, scorer: Endpoint) -> None:
    """Calls of an endpoint that keeps none by now are deleted though nobody said so."""
    keep(service)
    ask(service, scorer, 1)
    keeper(service).flush()
    keep(service, calls=None)
    keeper(service).sweep()
    assert KeptCalls(service.database).endpoints() == []


def test_figures_of_an_update(service: Service, scorer: Endpoint) -> None:
    """Both models answer the kept rows inside the server: figures come back, and the endpoint is as it was."""
    keep(service)
    ask(service, scorer, *(number / 10 for number in range(MIN_ROWS * 2)))
    before = service.client.get_endpoint(service.scoring, "mine")
    same, other = rehearse(service, "three"), rehearse(service, "twenty", key=scorer.primary_key)
    assert (other["calls"], other["rows"], other["refused"]) == (1, 100, {"live": 0, "new": 0})
    assert other["changed"] > 0.9 > same["changed"]
    assert other["stability"] > same["stability"] > 0
    assert other["quantiles"]["new"][2] / other["quantiles"]["live"][2] == pytest.approx(10, rel=0.1)
    assert service.client.get_endpoint(service.scoring, "mine") == before
    assert round(service.slope(scorer)) == 2
    visitor = Visitor(service)
    visitor.sign_in()
    page = text_of(visitor.page(f"/portal/services/{service.scoring}/endpoints/mine"))
    assert "Answers that change" in page
    assert f"{other['changed']:.1%} {other['stability']:.3f} 0, 0" in page
    text = json.dumps(other)
    assert "secret" not in text
    assert '"x"' not in text


def test_few_rows_give_no_figures(service: Service, scorer: Endpoint) -> None:
    """What little rows say of the models would say too much of the rows."""
    keep(service)
    ask(service, scorer, *range(MIN_ROWS - 1))
    figures = rehearse(service, "twenty")
    assert (figures["rows"], figures["changed"], figures["quantiles"]) == (MIN_ROWS - 1, None, None)


def test_the_model_is_checked_as_that_of_an_update(service: Service, scorer: Endpoint) -> None:
    """A model of another experiment, or none at all, is refused as a PATCH refuses it."""
    keep(service)
    ask(service, scorer, *range(MIN_ROWS))
    path = service.endpoint_path("mine") + "/rehearse"
    for place, code in (("other", b"ModelInvalid"), ("nothing", b"BlobNotFound")):
        body = {"Resources": [{"Name": RESOURCE, "Location": {"RelativeLocation": f"models/{place}.ilearner"}}]}
        answer = service.ask("POST", path, body)
        assert code in answer.body, answer.body
    assert b"BadParameterValue" in service.ask("POST", path, {"Resources": []}).body
