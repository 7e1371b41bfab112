"""What is asked is counted off the path of the calls, bounded, and summed over servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.counters import intake as module
from airflow_provider_azureml_classic.server.counters.intake import MOST_ROWS, Intake
from airflow_provider_azureml_classic.server.counters.ledger import KEPT_DAYS, Ledger
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.state.database import Database, DatabaseDown
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.engine import checked_url
from airflow_provider_azureml_classic.server.state.tables import (
    ExperimentRow,
    ModelRow,
    SamplesRow,
    ServiceRow,
    asked,
    model_bins,
)
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from tests.support.postgres import Cluster
from tests.support.service import Clock, Service


def model_of(service: Service, endpoint: Endpoint) -> tuple[str, Scorer]:
    """Id of an endpoint, and its model."""
    row = service.store.endpoint(endpoint.api_location.rpartition("/")[2])
    assert row is not None
    return row.id, service.models.scorer(row.resources[0].digest)


def add(intake: Intake, endpoint_id: str, scorer: Scorer, *numbers: float) -> None:
    """One call."""
    table = Table(("x",), [[number] for number in numbers])
    intake.add(endpoint_id, scorer, np.array([[n] for n in numbers], np.float32), [table], len(numbers))


def rows_of(database: Database, *columns: sa.ColumnElement[object]) -> list[tuple[object, ...]]:
    """What is in the table of counts."""
    with database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(asked.c.day))]


def test_servers_sum_up(service: Service, scorer: Endpoint, clock: Clock) -> None:
    """Two intakes of one database, in turn: counts of a day are added."""
    endpoint_id, model = model_of(service, scorer)
    intakes = [Intake(Ledger(service.database), clock) for _ in range(2)]
    for number, intake in enumerate(intakes * 2):
        add(intake, endpoint_id, model, 1.0, 99.0 + number)
        intake.settle()
    ((calls, rows, counted, counts),) = rows_of(
        service.database, asked.c.calls, asked.c.rows, asked.c.counted, asked.c.counts
    )
    assert (calls, rows, counted, sum(counts[:-3]), counts[-1]) == (4, 8, 8, 8, 4)
    for intake in intakes:
        intake.close()


@pytest.mark.slow
def test_a_model_that_cannot_be_counted_harms_no_other(service: Service, scorer: Endpoint, clock: Clock) -> None:
    """Its own calls are left out, those of others are counted."""
    endpoint_id, model = model_of(service, scorer)
    intake = Intake(Ledger(service.database), clock)
    broken = SimpleNamespace(digest="b" * 64)
    table = Table(("x",), [[1.0]])
    intake.add("other", cast("Any", broken), np.array([[1.0]], np.float32), [table], 1)
    add(intake, endpoint_id, model, 1.0)
    intake.settle()
    assert rows_of(service.database, asked.c.rows) == [(1,)]
    intake.close()


def test_very_many_rows_are_a_sample(service: Service, scorer: Endpoint, clock: Clock) -> None:
    """Calls and rows are counted, cells of some; what waits is bounded, and of one call it is from all of it."""
    endpoint_id, model = model_of(service, scorer)
    intake = Intake(Ledger(service.database), clock)
    matrix = np.repeat([[1.0], [99.0]], 50_000, axis=0).astype(np.float32)
    table = Table(("x",), matrix.tolist())
    for _ in range(6):
        intake.add_call(endpoint_id, model, matrix, table)
    intake.settle()
    ((calls, rows, counted, counts),) = rows_of(
        service.database, asked.c.calls, asked.c.rows, asked.c.counted, asked.c.counts
    )
    assert (calls, rows) == (6, 600_000)
    assert MOST_ROWS // 2 < counted <= MOST_ROWS
    assert counts[-1] == counted // 2
    intake.close()


def test_what_the_database_does_not_take_is_kept(
    service: Service, scorer: Endpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it answers again; scoring notices nothing of it."""
    endpoint_id, model = model_of(service, scorer)
    intake = Intake(Ledger(service.database), clock)
    add(intake, endpoint_id, model, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(service.database._breaker, "allows", lambda: False)
        with pytest.raises(DatabaseDown):
            intake.settle()
        intake._write()
        add(intake, endpoint_id, model, 1.0)
    intake.close()
    assert rows_of(service.database, asked.c.calls) == [(2,)]


def test_an_endpoint_that_was_deleted_meanwhile_is_passed_over(
    service: Service, scorer: Endpoint, clock: Clock
) -> None:
    """Its counts go with it, and those of others are written."""
    endpoint_id, model = model_of(service, scorer)
    gone, _ = model_of(service, service.client.add_endpoint(service.scoring, "gone"))
    intake = Intake(Ledger(service.database), clock)
    for _ in range(2):
        add(intake, gone, model, 1.0)
        add(intake, endpoint_id, model, 1.0)
        intake.settle()
        service.store.delete_endpoints(gone)
    assert rows_of(service.database, asked.c.endpoint_id, asked.c.calls) == [(endpoint_id, 2)]
    intake.close()


def test_old_counts_and_endpoints_without_number_are_forgotten(
    service: Service, scorer: Endpoint, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a month, with the bins of models that nobody asks any more; and few endpoints wait at a time."""
    endpoint_id, model = model_of(service, scorer)
    intake = Intake(Ledger(service.database), clock)
    add(intake, endpoint_id, model, 1.0)
    intake._write()
    assert len(rows_of(service.database, asked.c.day)) == 1
    clock.advance(days=KEPT_DAYS + 1)
    intake._write()
    assert rows_of(service.database, asked.c.day) == []
    with service.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(model_bins)).scalar() == 0
    monkeypatch.setattr(module, "MOST_ENDPOINTS", 3)
    for number in range(9):
        add(intake, str(number), model, 1.0)
    assert len(intake._waiting) == 3
    intake.close()


@pytest.mark.slow
def test_servers_that_write_at_once(service: Service, scorer: Endpoint, clock: Clock, postgres: Cluster) -> None:
    """On PostgreSQL no count is lost, and none waits for another for ever."""
    _, model = model_of(service, scorer)
    database = Database(checked_url(postgres.new_database()), service.settings.cipher_key)
    web_service = ServiceRow("5" * 32, "S", "E", False, clock())
    endpoints = [new_endpoint(web_service.id, name, clock()) for name in ("default", "a", "b")]
    first = ModelRow(model.digest, 1, 1, None, None, None, {})
    setup = ExperimentRow("E", "x", "{}"), [web_service], endpoints, first, SamplesRow("c", "x")
    try:
        Store(database).set_up_experiment(*setup)
        intakes = [Intake(Ledger(database), clock) for _ in range(4)]

        def run(intake: Intake) -> None:
            for _ in range(10):
                for endpoint in endpoints:
                    add(intake, endpoint.id, model, 1.0)
                intake.settle()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(run, intakes))
        assert rows_of(database, asked.c.calls, asked.c.counted) == [(40, 40)] * 3
        for intake in intakes:
            intake.close()
    finally:
        database.close()
