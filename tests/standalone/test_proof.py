"""An update whose task ends between its PATCH and its proof: it goes on with the proof, and does nothing twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.standalone.airflow import Airflow, wait_for
from tests.standalone.service import Service
from tests.support.tasks import DAY, added, live, trained

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]


@pytest.fixture(scope="module")
def job(service: Service) -> dict[str, Any]:
    """A finished training job, as ``BatchExecutionOperator`` returns it."""
    return service.ask(lambda client: trained(service.process, client, "standalone", DAY, level=700))


class Update:
    """An update that is not proved before the test lets its endpoint answer.

    :param dag_id: one of the DAGs of ``held_jobs.py``.
    :param run: id of the run, and name of the endpoint.
    """

    def __init__(self, airflow: Airflow, service: Service, points: Path, job: Any, dag_id: str, run: str) -> None:
        self.airflow, self.service, self.points, self.dag_id, self.run = airflow, service, points, dag_id, run
        service.ask(lambda client: added(client, run))
        self.before = service.ask(lambda client: live(client, run))
        (points / f"{run}.mute").touch()
        airflow.trigger(dag_id, run, endpoint=run, job=job)

    def wait_for_patch(self, state: str) -> None:
        """Until the model is in place and the task waits for its proof."""
        wait_for(f"{self.run} is patched", lambda: self.service.ask(lambda c: live(c, self.run)) != self.before)
        self.airflow.wait_for_task(self.dag_id, self.run, state)

    def assert_proved(self) -> None:
        """Let the endpoint answer: the task succeeds, after one PATCH, and its receipt names the right model."""
        (self.points / f"{self.run}.mute").unlink()
        self.airflow.wait_for_task(self.dag_id, self.run, "success")
        receipt = self.airflow.returned(self.dag_id, self.run)
        assert receipt["proof"]["level"] == "content"
        assert receipt["replaced"]["location"].endswith(self.before)
        assert (self.points / f"{self.run}.calls").read_text().split().count("patch_endpoint") == 1

    def process(self) -> psutil.Process:
        """The task's process."""
        return psutil.Process(self.airflow.wait_for_task(self.dag_id, self.run, "running")["pid"])


def killed_in_worker(start: Callable[..., Update]) -> None:
    """The task's process is killed with -9 while it waits for the proof."""
    update = start("proofinworker", "proof1")
    process = update.process()
    update.wait_for_patch("running")
    update.airflow.kill(process)
    wait_for("it is tried again", lambda: update.airflow.task(update.dag_id, update.run)["try_number"] == 2)
    update.assert_proved()


def killed_after_patch(start: Callable[..., Update], points: Path) -> None:
    """The process is killed between the PATCH and the first look for a proof; the retry is deferred."""
    stop = points / "proof2-after-patch_endpoint"
    stop.touch()
    update = start("proofdeferred", "proof2")
    wait_for("it has sent its PATCH", stop.with_suffix(".reached").exists)
    update.airflow.kill(update.process())
    wait_for("it is tried again", lambda: update.airflow.task(update.dag_id, update.run)["try_number"] == 2)
    update.wait_for_patch("deferred")
    update.assert_proved()


def cleared_while_deferred(start: Callable[..., Update]) -> None:
    """The task is cleared while it is deferred."""
    update = start("proofdeferred", "proof3")
    update.wait_for_patch("deferred")
    update.airflow.clear(update.dag_id, update.run)
    wait_for("it runs again", lambda: update.airflow.task(update.dag_id, update.run)["try_number"] == 2)
    update.assert_proved()


def too_late(start: Callable[..., Update]) -> None:
    """A proof that does not come in time, though the task was deferred: the model of before is put back."""
    update = start("prooflate", "proof4")
    update.airflow.wait_for_task("prooflate", "proof4", "failed")
    said = update.airflow.log("prooflate", "proof4")
    assert "after 3 s it does not give the new model's answers" in said
    assert "The previous model was put back" in said
    assert update.service.ask(lambda client: live(client, "proof4")) == update.before


def test_updates(airflow: Airflow, service: Service, points: Path, job: Any) -> None:
    """All four stories, side by side: none sends a second PATCH, none loses the model of before."""
    start = partial(Update, airflow, service, points, job)
    stories = [
        partial(killed_in_worker, start),
        partial(killed_after_patch, start, points),
        partial(cleared_while_deferred, start),
        partial(too_late, start),
    ]
    with ThreadPoolExecutor(len(stories)) as pool:
        for outcome in [pool.submit(story) for story in stories]:
            outcome.result()
