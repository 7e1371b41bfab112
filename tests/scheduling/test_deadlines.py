"""A deadline counts from the end of the window, as the operators have it, for each kind of run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from airflow.models.dagrun import DagRun
from airflow.sdk import AsyncCallback, DeadlineAlert
from airflow.serialization.decoders import decode_deadline_alert
from airflow.serialization.encoders import encode_deadline_alert
from sqlalchemy.orm import Session

from airflow_provider_azureml_classic.notifications import ModelUpdatedNotifier
from airflow_provider_azureml_classic.retraining.freshness import run_window
from airflow_provider_azureml_classic.scheduling.deadlines import WindowEnd

DUE, END, PARTITION = (datetime(2026, 3, day, tzinfo=UTC) for day in (3, 2, 1))
RUNS = {
    "partition": {"partition_date": PARTITION, "data_interval_end": None, "run_after": DUE},
    "interval": {"partition_date": None, "data_interval_end": END, "run_after": DUE},
    "neither": {"partition_date": None, "data_interval_end": None, "run_after": DUE},
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A database with Airflow's table of runs, and a run of each kind."""
    engine = sa.create_engine("sqlite://")
    table = DagRun.__table__
    common = {"dag_id": "d", "run_type": "manual", "state": "queued", "span_status": "unset"}
    common |= {"clear_number": 0, "log_template_id": None}
    with engine.connect() as connection:
        table.create(connection)  # type: ignore[attr-defined]
        for name, moments in RUNS.items():
            connection.execute(sa.insert(table).values({**common, "run_id": name, **moments}))  # type: ignore[arg-type]
        with Session(connection) as made:
            yield made
    engine.dispose()


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS)
def test_it_is_the_end_of_the_window(session: Session, kind: str) -> None:
    """The same moment that the operators take from the run; none where there is no such run."""
    moment = WindowEnd()._evaluate_with(session=session, dag_id="d", run_id=kind)
    assert moment == run_window({"dag_run": type("Run", (), RUNS[kind])}).end
    assert WindowEnd()._evaluate_with(session=session, dag_id="d", run_id="another") is None


@pytest.mark.slow
def test_airflow_reads_it_as_it_was_written() -> None:
    """By the plugin: a class that no plugin has would be refused here."""
    alert = DeadlineAlert(
        WindowEnd(), timedelta(hours=6), AsyncCallback(ModelUpdatedNotifier, kwargs={"note": "Late:"})
    )
    again = decode_deadline_alert(encode_deadline_alert(alert))
    assert "WindowEnd" in str(again.reference.reference_name)
    assert again.interval == timedelta(hours=6)
