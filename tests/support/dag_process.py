"""One Airflow process that runs the DAGs of a folder through ``dag.test``: loading Airflow is what costs.

As a program: reads a JSON object a line from standard input, writes one a line to the descriptor that its argument
names. What Airflow prints goes to the log.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class DagProcess:
    """A private Airflow with a SQLite database; connections come from the environment.

    :param home: an empty folder.
    :param dags: the folder of the DAGs.
    :param environment: connections and settings.
    """

    def __init__(self, home: Path, dags: Path, environment: Mapping[str, str]) -> None:
        self.home, self.log = home, home / "airflow.log"
        reading, writing = os.pipe()
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
                cwd=ROOT,
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
                    "AIRFLOW_HOME": str(home / "airflow"),
                    "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
                    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                    "AIRFLOW__OPENLINEAGE__DISABLED": "True",
                    **environment,
                },
            )
        os.close(writing)
        self._answers = os.fdopen(reading)

    def run(self, dag_id: str, **options: Any) -> dict[str, Any]:
        """Run a DAG once.

        :param dag_id: the DAG.
        :param options: ``logical_date`` (absent: none, as in a run that an asset starts), ``run_after``, ``conf``, and
            ``events``: extras of the events, by asset, that start the run.
        :return: ``state``; ``tasks``, ``names`` and ``xcoms`` by task id, with the map index of a mapped one behind it;
            ``events``: the asset events that the run recorded.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"dag_id": dag_id, **options}).encode() + b"\n")
        self.process.stdin.flush()
        line = self._answers.readline()
        assert line, f"Airflow stopped:\n{self.log.read_text(errors='replace')[-4000:]}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return dict(answer)

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._answers.close()


def main() -> None:
    """Prepare the database, then run what is asked for."""
    answers = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    from airflow.utils.db import initdb

    initdb()
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    for line in sys.stdin:
        try:
            if bag.import_errors:
                raise RuntimeError("; ".join(bag.import_errors.values()))
            print(json.dumps(run(bag, **json.loads(line))), file=answers)
        except Exception as error:
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)


def run(
    bag: Any,
    dag_id: str,
    logical_date: str | None = None,
    run_after: str | None = None,
    conf: dict[str, Any] | None = None,
    events: dict[str, list[dict[str, Any]]] | None = None,
    partition: str | None = None,
) -> dict[str, Any]:
    """One run; see :meth:`DagProcess.run`."""
    moments = {
        "logical_date": datetime.fromisoformat(logical_date) if logical_date else None,
        "run_after": datetime.fromisoformat(run_after) if run_after else None,
    }
    with started_by(events or {}, partition):
        dag_run = bag.dags[dag_id].test(**moments, run_conf=conf)
    instances = {
        f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: ti for ti in dag_run.get_task_instances()
    }
    return {
        "state": str(getattr(dag_run.state, "value", dag_run.state)),
        "run_id": dag_run.run_id,
        "tasks": {name: str(getattr(ti.state, "value", ti.state)) for name, ti in instances.items()},
        "names": {name: ti.rendered_map_index for name, ti in instances.items()},
        "xcoms": {name: xcoms(ti) for name, ti in instances.items()},
        "events": recorded(dag_id, dag_run.run_id),
    }


def xcoms(ti: Any) -> dict[str, Any]:
    """Everything that a task instance pushed."""
    from airflow.models.xcom import XComModel
    from airflow.settings import Session
    from sqlalchemy import select

    query = select(XComModel).where(
        XComModel.dag_id == ti.dag_id,
        XComModel.run_id == ti.run_id,
        XComModel.task_id == ti.task_id,
        XComModel.map_index == ti.map_index,
    )
    with Session() as session:
        return {row.key: XComModel.deserialize_value(row) for row in session.scalars(query)}


def recorded(dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """The asset events of a run."""
    from airflow.models.asset import AssetEvent
    from airflow.settings import Session
    from sqlalchemy import select

    query = select(AssetEvent).where(AssetEvent.source_dag_id == dag_id, AssetEvent.source_run_id == run_id)
    with Session() as session:
        return [
            {
                "uri": event.asset.uri,
                "name": event.asset.name,
                "extra": event.extra,
                "task": event.source_task_id,
                "partition": event.partition_key,
                "aliases": [alias.name for alias in event.source_aliases],
            }
            for event in session.scalars(query.order_by(AssetEvent.id))
        ]


@contextlib.contextmanager
def started_by(events: Mapping[str, list[dict[str, Any]]], partition: str | None) -> Iterator[None]:
    """Lets ``dag.test`` make a run that asset events started, or one partition, which it cannot by itself."""
    from unittest import mock

    from airflow.models import dagrun
    from airflow.models.asset import AssetEvent, AssetModel
    from sqlalchemy import select

    make = dagrun.get_or_create_dagrun

    def made(*, session: Any, **options: Any) -> Any:
        run = make(session=session, **options)
        run.partition_key = partition
        for name, extras in events.items():
            asset = session.scalars(select(AssetModel).where(AssetModel.name == name)).one()
            run.consumed_asset_events += [AssetEvent(asset_id=asset.id, extra=extra) for extra in extras]
        session.commit()
        return run

    with mock.patch.object(dagrun, "get_or_create_dagrun", made):
        yield


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
