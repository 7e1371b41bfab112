"""Runs the gated DAG for the weeks given as ``2026-05-03=Approve``, each answered so by a "person".

A program of its own, with a metadata database of its own. Prints one JSON object: for each week the tasks' states and
what they returned, the event of the endpoint's asset, and the text that the person read.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from tests.support.dag_process import recorded, xcoms

DAG_ID, TASK = "bike_rental_gated", "approve"


def answer(option: str, done: threading.Event, read: dict[str, str]) -> None:
    """Answer as the REST API does, with its own function, once the task waits.

    :param option: ``Approve`` or ``Reject``.
    :param done: set when the run has ended.
    :param read: is given what the person reads.
    """
    from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
    from airflow.api_fastapi.core_api.routes.public import hitl
    from airflow.models.taskinstance import TaskInstance
    from airflow.settings import Session
    from sqlalchemy import select

    waiting = select(TaskInstance).where(TaskInstance.task_id == TASK, TaskInstance.state == "awaiting_input")
    while not done.wait(0.2):
        with Session() as session:
            found = session.scalars(waiting).first()
            if found is None:
                continue
            # Until the next look of ``dag.test`` its own session may still write the state in which it saw the task.
            done.wait(2.5)
            detail = hitl.get_hitl_detail(DAG_ID, found.run_id, TASK, session)
            read.update(subject=detail.subject, body=detail.body)
            payload = UpdateHITLDetailPayload(chosen_options=[option], params_input={})
            person = SimpleNamespace(get_id=lambda: "1", get_name=lambda: "Ada")
            hitl.update_hitl_detail(DAG_ID, found.run_id, TASK, payload, person, session)
            session.commit()
            return


def run(dag: Any, day: datetime, option: str) -> dict[str, Any]:
    """One run.

    :param dag: the DAG.
    :param day: start of its week.
    :param option: what the person answers, if asked.
    """
    done, read = threading.Event(), {}
    person = threading.Thread(target=answer, args=(option, done, read), daemon=True)
    person.start()
    try:
        ended = dag.test(logical_date=day + timedelta(days=7))
    finally:
        done.set()
        person.join()
    instances, events = ended.get_task_instances(), recorded(DAG_ID, ended.run_id)
    return {
        "states": {ti.task_id: str(getattr(ti.state, "value", ti.state)) for ti in instances},
        "returned": {ti.task_id: xcoms(ti).get("return_value") for ti in instances},
        "event": events[0]["extra"] if events else None,
        **read,
    }


def main() -> None:
    """Prepare the database, then run week after week."""
    from airflow.utils.db import initdb

    initdb()
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    assert not bag.import_errors, bag.import_errors
    weeks = [argument.split("=") for argument in sys.argv[1:]]
    found = {day: run(bag.dags[DAG_ID], datetime.fromisoformat(day).replace(tzinfo=UTC), word) for day, word in weeks}
    print(json.dumps(found), file=sys.__stdout__)


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):
        main()
