"""Mends taken out, one at a time: ``make mends`` says which seed finds each.

Each is a fault of order, loss, repetition, restart or time that this package once had, or that a line of it is there
to prevent. A simulation that does not find them is worth nothing. :data:`HELD_BY_TESTS` are those that no simulation
has a part in, with the ordinary test that fails without the mend.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = "airflow_provider_azureml_classic"


@dataclass(frozen=True)
class Mend:
    """Lines that prevent a fault.

    :param fault: what happens without them.
    :param path: of the module, below the package.
    :param lines: as they are.
    :param undone: what stands there instead.
    :param kind: of the simulation that finds it.
    :param seed: from which on it is looked for: the one that found it the last time.
    """

    fault: str
    path: str
    lines: str
    undone: str
    kind: str = "days"
    seed: int = 0

    def source(self) -> str:
        """The module without the mend.

        :raises ValueError: the lines are not there once: they have changed, so look whether the mend still holds.
        """
        text = (ROOT / PACKAGE / self.path).read_text()
        if text.count(self.lines) != 1:
            raise ValueError(f"{self.path} has these lines {text.count(self.lines)} times: {self.lines!r}")
        return text.replace(self.lines, self.undone)


MENDS = (
    Mend(
        "a job is started before it is remembered: a task that is killed between the two trains twice",
        "retraining/submitting.py",
        "            memory.keep(state)\n",
        "            yield from self.start(job_id)\n            yield Pause(1.0)\n            memory.keep(state)\n",
    ),
    Mend(
        "an attempt does not take up the job of the one before",
        "retraining/submitting.py",
        "        state = memory.recall()\n",
        "        state = None\n",
    ),
    Mend(
        "a job whose start's answer was lost fails the task",
        "retraining/submitting.py",
        '            if error.detail_code != "CannotStartJob":\n                raise\n',
        "            raise\n",
    ),
    Mend(
        "a failed poll fails the task",
        "retraining/submitting.py",
        "                if not error.retryable or state.is_late:\n",
        "                if True:\n",
    ),
    Mend(
        "a job that outlasts its deadline is waited for without an end",
        "retraining/submitting.py",
        "            if job.status.terminal or state.is_late:\n",
        "            if job.status.terminal:\n",
    ),
    Mend(
        "an update of older data is put live",
        "retraining/order.py",
        "    if candidate.window.end < live:\n",
        "    if False:\n",
    ),
    Mend(
        "somebody else's change between the GET and the PATCH is overwritten",
        "retraining/placing.py",
        ", if_match=etag, approval=self.approval)",
        ", approval=self.approval)",
        seed=45,
    ),
    Mend(
        "an update whose answer was lost fails, though it was made",
        "retraining/placing.py",
        "            if own and shows(after, patch.resource, patch.location) and patch.has_moved(after):\n",
        "            if False:\n",
    ),
    Mend(
        "what was live before a PATCH is not remembered: after a kill the model replaces itself",
        "retraining/placing.py",
        "            kept = remember(patch)\n",
        "            kept = None\n",
    ),
    Mend(
        "an update that a newer one overtakes waits out its time and fails",
        "retraining/placing.py",
        "        if reason := _overtaken(after, patch):\n",
        "        if reason := None:\n",
    ),
    Mend(
        "an update that is overtaken while a slow answer is waited for is said to have failed",
        "retraining/placing.py",
        "                    yield from self._look(endpoint, patch)\n",
        "                    pass\n",
        seed=536,
    ),
    Mend(
        "an update that another one of the same window overtakes waits out its time and fails",
        "retraining/placing.py",
        "own is None or end < own.end:",
        "own is None or end <= own.end:",
        seed=177,
    ),
    Mend(
        "the end of a window has microseconds, which no model's path has: a sensor waits for ever",
        "retraining/freshness.py",
        '        object.__setattr__(self, "end", self.end.replace(microsecond=0))\n',
        "",
        seed=536,
    ),
    Mend(
        "the moment that a sensor waits for has microseconds, which no window has",
        "retraining/freshness.py",
        '            object.__setattr__(self, "trained_to", self.trained_to.replace(microsecond=0))\n',
        "            pass\n",
    ),
    Mend(
        "a submission does not tell its window: a model at a path without a stamp has none",
        "client/verbs.py",
        "        headers = job.purpose.to_header() if job.purpose else {}\n",
        "        headers: dict[str, str] = {}\n",
    ),
    Mend(
        "models of one window are written to one place",
        "retraining/freshness.py",
        '"models/{service}/{endpoint}/{window_end}-{token}.ilearner"',
        '"models/{service}/{endpoint}/{window_end}.ilearner"',
    ),
    Mend(
        "an update by job installs whatever lies at the job's place by now",
        "retraining/placing.py",
        '"model_file": model.file if model else None',
        '"model_file": None',
    ),
    Mend(
        "an empty or cut answer is taken for one",
        "client/answers.py",
        "    except ValueError:\n        raise from_response(request, response) from None\n",
        "    except ValueError:\n        return []\n",
    ),
    Mend(
        "a task that was cleared takes up the job of before",
        "retraining/submitting.py",
        "        if state.epoch != epoch and not (keep_finished and job.status is JobStatus.FINISHED):\n",
        "        if False:\n",
        seed=1,
    ),
    Mend(
        "an attempt waits again for the proof of an earlier one, whatever lies at that place by now",
        "retraining/placing.py",
        "same_place(candidate.location) and not same else None",
        "same_place(candidate.location) else None",
        seed=97,
    ),
    Mend(
        "of models of one window the one that was trained earlier replaces the other",
        "retraining/order.py",
        "own_trained >= trained:",
        "own_trained is not None:",
        seed=28,
    ),
    Mend(
        "an endpoint that somebody else changes once is given up",
        "retraining/placing.py",
        "RACES = 5",
        "RACES = 1",
    ),
    Mend(
        "a fleet that is taken up names the model itself as the one that it replaced",
        "fleet/update.py",
        "            return self.save()\n",
        "            return self._client.get_web_service(self.service.id)\n",
        "fleets",
    ),
    Mend(
        "a fleet that is taken up trains again what it had submitted",
        "fleet/engine.py",
        "        if row.job_id and await self._take_up(runner, row, ",
        "        if row.job_id and False and await self._take_up(runner, row, ",
        "fleets",
    ),
    Mend(
        "jobs of a fleet are not remembered before they are started",
        "fleet/engine.py",
        "            finally:\n                save()\n",
        "            finally:\n                pass\n",
        "fleets",
        seed=40,
    ),
    Mend(
        "an update whose answer was lost is not tried again: its endpoint is left out",
        "fleet/engine.py",
        "                    self.in_flight[job.id] = row\n",
        "                    pass\n",
        "fleets",
    ),
    Mend(
        "a poll that fails fails its endpoint",
        "fleet/engine.py",
        "            if error.retryable:\n",
        "            if False:\n",
        "fleets",
    ),
    Mend(
        "more jobs run at a time than a fleet may have",
        "fleet/engine.py",
        "        room = self._options.max_active_jobs - len(self.in_flight)\n",
        "        room = self._options.max_active_jobs\n",
        "fleets",
    ),
    Mend(
        "after the fleet's deadline its jobs go on",
        "fleet/engine.py",
        "            await self._give_up()\n",
        "            pass\n",
        "fleets",
    ),
    Mend(
        "a start whose answer was lost is not tried again: its endpoint is left out",
        "fleet/engine.py",
        "                self._waiting.appendleft(row)\n",
        "                pass\n",
        "fleets",
    ),
    Mend(
        "a fleet that runs out of its attempt's time fails the endpoints whose jobs it cancelled itself",
        "fleet/engine.py",
        "        return self._means.is_ended() or self._is_interrupted()\n",
        "        return self._means.is_ended()\n",
        "fleets",
    ),
    Mend(
        "a server that was taken for dead ends a job that another one runs",
        "server/state/job_store.py",
        '_MOVE_OWN = _MOVE.where(jobs.c.server_id == sa.bindparam("by"))\n',
        '_MOVE_OWN = _MOVE.where(sa.bindparam("by").is_not(None))\n',
        "servers",
    ),
    Mend(
        "a job that was cancelled ends a second time",
        "server/state/job_store.py",
        '_MOVE = _UPDATE.where(jobs.c.status.in_(sa.bindparam("sources", expanding=True)))\n',
        '_MOVE = _UPDATE.where(jobs.c.status.in_(sa.bindparam("sources", expanding=True)) | sa.true())\n',
        "servers",
    ),
    Mend(
        "the jobs of a server that has died run for ever",
        "server/state/peers.py",
        "            job_ids = requeue(connection, nobodys)\n",
        "            job_ids: list[str] = []\n",
        "servers",
    ),
    Mend(
        "a server that was taken for dead claims jobs, which another one runs as well",
        "server/state/job_store.py",
        '            alive = connection.execute(_ALIVE, {"by": server_id}).first()\n',
        "            alive = True\n",
        "servers",
        80,
    ),
    Mend(
        "a server that comes back from a long pause is not a member again",
        "server/state/peers.py",
        "            self.id = uuid.uuid4().hex\n            self._enter()\n",
        "            self.id = uuid.uuid4().hex\n",
        "servers",
    ),
    Mend(
        "servers do not take each other for dead",
        "server/state/peers.py",
        "watched[server_id][1] * BEAT_SECONDS > LEASE_SECONDS",
        "watched[server_id][1] * BEAT_SECONDS > 10**9",
        "servers",
    ),
    Mend(
        "a server is taken for dead that has beaten since it was looked at",
        "server/state/peers.py",
        "self._end(servers.c.id == server_id, servers.c.beat == beat)",
        "self._end(servers.c.id == server_id)",
        "servers",
        seed=16,
    ),
    Mend(
        "more jobs of an endpoint run at a time than may",
        "server/state/job_store.py",
        "    .where(jobs.c.endpoint_id.not_in(_FULL))\n",
        "    .where(jobs.c.endpoint_id.not_in(_FULL) | sa.true())\n",
        "servers",
    ),
    Mend(
        "a job whose claim got no answer waits for ever",
        "server/jobs/runner.py",
        "        if begun := {job_id for _, job_id in lost - self._unrecorded}:\n",
        "        if begun := lost - lost:\n",
        "servers",
    ),
    Mend(
        "a job whose end the database did not take is given up",
        "server/jobs/runner.py",
        "                # The job is still this server's; if it is another's by then, the id has changed.\n"
        "                self._closing.wait(_PAUSE)\n",
        "                return\n",
        "servers",
    ),
    Mend(
        "of two changes of an endpoint at the same time one is lost",
        "server/state/endpoint_store.py",
        ".where(endpoints.c.id == row.id, endpoints.c.revision == row.revision)",
        ".where(endpoints.c.id == row.id)",
        "servers",
    ),
    Mend(
        "an endpoint that was read before a change is remembered after it: it stays as it was for ever",
        "server/workspace/workspace.py",
        "            if row is not None and self._changes == before:\n",
        "            if row is not None:\n",
        "servers",
        seed=13,
    ),
    Mend(
        "a server that hears nothing of the others goes on answering from what it remembers",
        "server/workspace/workspace.py",
        "        return self._cache.get(endpoint_id) if self._fresh() else None\n",
        "        return self._cache.get(endpoint_id)\n",
        "servers",
        seed=13,
    ),
    Mend(
        "what changed while a server could not listen stays unknown to it",
        "server/state/peers.py",
        "        # What was told while nobody listened.\n        self.on_change()\n",
        "",
        "servers",
    ),
    Mend(
        "what another server changed is not told",
        "server/state/endpoint_store.py",
        "            add_placements(connection, models, how, now, approval)\n"
        "            self._db.notify(connection, row.id)\n",
        "            add_placements(connection, models, how, now, approval)\n",
        "servers",
    ),
    Mend(
        "a key that was replaced through another server goes on opening",
        "server/state/endpoint_store.py",
        "            connection.execute(sa.update(endpoints).where(endpoints.c.id == row.id).values(**fresh))\n"
        "            self._db.notify(connection, row.id)\n",
        "            connection.execute(sa.update(endpoints).where(endpoints.c.id == row.id).values(**fresh))\n",
        "servers",
    ),
    Mend(
        "the pings of other servers prove that this one hears",
        "server/state/peers.py",
        "            if ping in sent:\n                self._fresh_until = sent.pop(ping) + FRESH_SECONDS\n",
        "            self._fresh_until = time.monotonic() + FRESH_SECONDS\n",
        "servers",
    ),
    Mend(
        "If-Match is looked at before the first attempt only",
        "server/workspace/workspace.py",
        "        for _ in range(_ATTEMPTS):\n            if if_match is not None and",
        "        for number in range(_ATTEMPTS):\n            if number == 0 and if_match is not None and",
        "servers",
    ),
    Mend(
        "a job that was cancelled in the queue is run",
        "server/state/job_store.py",
        "    .where(jobs.c.status == JobStatus.NOT_STARTED.value, jobs.c.place.is_not(None))\n",
        "    .where(jobs.c.status.in_([JobStatus.NOT_STARTED.value, JobStatus.CANCELLED.value]))\n"
        "    .where(jobs.c.place.is_not(None))\n",
        "servers",
    ),
    Mend(
        "a database that is silent for a moment while a job delivers costs the training",
        "server/jobs/work.py",
        "                if self.closing.wait(POLL_SECONDS):\n                    raise CancelledError from None\n",
        "                raise\n",
        "servers",
    ),
    Mend(
        "what was done is done again when its end is not recorded",
        "server/jobs/runner.py",
        "                end = end or self._outcome(job, notes, slot)\n",
        "                end = self._outcome(job, notes, slot)\n",
        "servers",
    ),
    Mend(
        "a claim is taken for a lost one while it is made",
        "server/jobs/runner.py",
        "        with self._claims:\n"
        "            lost = {(server_id, job_id) for job_id in self._jobs.running(server_id)} - self._in_hand\n",
        "        lost = {(server_id, job_id) for job_id in self._jobs.running(server_id)} - self._in_hand\n",
        "servers",
    ),
    Mend(
        "a job that is being done is taken for one that nobody has in hand",
        "server/jobs/runner.py",
        "                    self._in_hand.add((server_id, job.id))\n",
        "                    pass\n",
        "servers",
    ),
    Mend(
        "of the keys that two made at the same time the older one opens for ever",
        "server/state/endpoint_store.py",
        "            if gone.rowcount != len(old):\n",
        "            if False:\n",
        "servers",
        10,
    ),
)


#: Other faults of these kinds, and the tests that hold them.
HELD_BY_TESTS = {
    "a power loss takes a blob or a model file that was answered": "tests/server/test_power_loss.py",
    "a server that was taken for dead runs a job twice at once: the first thread takes it from the second": (
        "tests/server/jobs/test_recording.py::test_a_job_that_is_claimed_again_stays_in_hand"
    ),
    "a server that may be taken for dead delivers": (
        "tests/server/jobs/test_jobs.py::test_what_may_be_taken_for_dead_delivers_nothing"
    ),
    "a start with another database removes the models": "tests/server/models/test_pair.py",
    "two first starts at once have different secrets": (
        "tests/server/test_two_servers.py::test_two_first_starts_at_once"
    ),
    "servers that start at once upgrade the database twice": (
        "tests/server/state/test_schema.py::test_servers_that_start_at_once_upgrade_once"
    ),
    "two servers that claim at the same moment run too many jobs of an endpoint": (
        "tests/server/state/test_postgres.py::test_servers_claim_no_more_jobs_than_may_run"
    ),
    "a job whose end cannot be recorded stays Running": "tests/server/jobs/test_recording.py",
    "what a cancelled job had delivered stays": (
        "tests/server/jobs/test_jobs.py::test_a_job_that_is_cancelled_while_it_delivers_delivers_nothing"
    ),
    "a store that is away for a moment costs a training": (
        "tests/server/jobs/test_jobs.py::test_a_store_that_is_away_for_a_while_costs_no_training"
    ),
    "the death of the process that trainings fork from is taken for theirs": (
        "tests/server/jobs/test_isolation.py::test_the_process_that_others_fork_from_is_killed"
    ),
    "jobs of a killed server run one after the other": (
        "tests/server/test_server_process.py::test_jobs_of_a_killed_server_run_side_by_side_again"
    ),
    "a model that is put again is removed by another server": (
        "tests/server/storage/test_home_storage.py::test_a_model_that_is_put_again_is_not_removed_by_another_server"
    ),
    "of the very same bytes, trained twice, the window of the wrong training is told": (
        "tests/server/workspace/test_windows.py"
    ),
    "a key that was regenerated opens calls from what is remembered": (
        "tests/server/workspace/test_keys.py::test_a_call_that_a_regeneration_overtakes_is_not_kept"
    ),
    "whoever signed out is signed in again after a restart": (
        "tests/server/portal/test_pages.py::test_signed_out_is_signed_out_after_a_restart"
    ),
    "a clock that jumps ends what it should not": "tests/server/test_degradation.py::test_the_clock_jumps",
    "a file of a killed server stays": "tests/server/test_data_folder.py::test_files_of_a_killed_server_are_removed",
    "counts of two servers that write at once are lost": (
        "tests/server/counters/test_intake.py::test_servers_that_write_at_once"
    ),
    "a download that is cut at the end of a row is trained on": (
        "tests/server/storage/test_locations.py::test_what_may_be_cut_is_not_read"
    ),
    "a deletion whose answer was lost fails": "tests/client/test_retries.py::test_a_deletion_whose_answer_was_lost",
    "a submission is repeated by the client": "tests/client/test_retries.py::test_submission_is_sent_once",
    "a worker that is evicted cancels the jobs of its tasks": "tests/operators/test_ending.py::test_evicted",
    "a task that is cleared does not train again": (
        "tests/operators/test_batch.py::test_clearing_a_finished_task_trains_again"
    ),
    "a retry begins its time-out anew": "tests/operators/test_batch.py::test_deadline_survives_a_retry",
    "execution_timeout does not count in the triggerer": "tests/test_execution_timeout.py",
    "a sensor whose service is away at first fails": "tests/test_triggers.py::test_outage_to_the_deadline",
    "a watch tells its events again after a restart": "tests/test_watchers.py::test_restart_repeats_no_event",
    "a stale model that a rollback brings back is not told again": (
        "tests/test_watchers.py::test_a_stale_model_that_comes_back_is_told_again"
    ),
    "a gate decides on answers of a half-updated endpoint": (
        "tests/operators/test_faults.py::test_gate_does_not_believe_half_an_update"
    ),
    "a gate decides though another model went live meanwhile": (
        "tests/retraining/test_judging.py::test_another_model_that_goes_live_meanwhile_leaves_nothing_decided"
    ),
    "an upload that another one overtakes is reported as its own": (
        "tests/operators/test_upload.py::test_overtaken_by_another_upload"
    ),
    "what a failed attempt had replaced is forgotten by the next": (
        "tests/retraining/test_placing.py::test_what_an_earlier_attempt_replaced"
    ),
    "a model at a place that is written again replaces itself": (
        "tests/retraining/test_placing.py::test_a_place_that_is_written_again"
    ),
    "a model is put back over what somebody else put live": (
        "tests/retraining/test_placing.py::test_what_keeps_it_from_being_put_back"
    ),
    "a model is put back whatever changes meanwhile": (
        "tests/retraining/test_placing.py::test_the_previous_model_is_put_back"
    ),
    "jobs of a fleet that run already are started after others: too many run": (
        "tests/fleet/test_engine.py::test_jobs_that_run_count_first"
    ),
    "an endpoint that somebody else updates meanwhile fails its fleet": "tests/fleet/test_update.py::test_overtaken",
    "what changes while a fleet's rows are kept is taken for kept": (
        "tests/fleet/test_engine.py::test_what_changes_while_the_rows_are_kept_is_kept_as_well"
    ),
    "jobs of a fleet go on when the time of its attempt is over": (
        "tests/fleet/test_engine.py::test_when_the_time_of_an_attempt_is_over_its_jobs_are_cancelled"
    ),
    "a triggerer that is killed cancels what it waited for": "tests/standalone/test_outage.py::test_triggerer_killed",
}


def command_line(mends: Iterable[Mend], hours: float) -> int:
    """Try each; 1 if one is not found."""
    missing = 0
    for mend in mends:
        seed = found_by(mend, hours)
        missing += seed is None
        print(f"{'not found' if seed is None else f'seed {seed}':<12} {mend.fault}", flush=True)
    return int(missing > 0)


def found_by(mend: Mend, hours: float) -> str | None:
    """The seed that finds a mend that was taken out; ``None``: none does."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / PACKAGE, Path(folder, PACKAGE), ignore=shutil.ignore_patterns("__pycache__", "static"))
        Path(folder, "tests").symlink_to(ROOT / "tests")
        Path(folder, PACKAGE, mend.path).write_text(mend.source())
        command = [sys.executable, "-m", "tests.simulation", "--kind", mend.kind, "--first", str(mend.seed)]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        command += ["--hours", str(hours)]
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
    seeds = re.findall(r"--seed (\d+)\n", ended.stderr)
    # Any other error is no finding.
    if ended.returncode and (
        not seeds or not re.search(r"^(Violation|AssertionError|Unanswered): ", ended.stderr, re.M)
    ):
        raise RuntimeError(ended.stderr[-3000:])
    return seeds[-1] if seeds else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.undone", description=__doc__)
    parser.add_argument("--hours", type=float, default=50_000, help="simulated for each mend, at most")
    parser.add_argument("--only", default="", help="faults with these words")
    parser.add_argument("--kind", default="", help="of one kind of simulation only")
    arguments = parser.parse_args()
    chosen = [mend for mend in MENDS if arguments.only in mend.fault and arguments.kind in ("", mend.kind)]
    sys.exit(command_line(chosen, arguments.hours))
