"""Mends taken out, one at a time: ``python -m tests.simulation.undone`` says which seed finds each.

Each is a fault of order, loss, repetition, restart or time that this package once had, or that a line of it is there
to prevent. A simulation that does not find them is worth nothing.
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
    """

    fault: str
    path: str
    lines: str
    undone: str
    kind: str = "days"

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
    ),
    Mend(
        "an update that another one of the same window overtakes waits out its time and fails",
        "retraining/placing.py",
        "own is None or end < own.end:",
        "own is None or end <= own.end:",
    ),
    Mend(
        "the end of a window has microseconds, which no model's path has: a sensor waits for ever",
        "retraining/freshness.py",
        '        object.__setattr__(self, "end", self.end.replace(microsecond=0))\n',
        "",
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
        "    except ValueError:\n        raise from_response(request, response) from None\n    if data is None:\n",
        "    except ValueError:\n        return []\n    if data is None:\n",
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
        "        if row.job_id and await self._take_up(row, ",
        "        if row.job_id and False and await self._take_up(row, ",
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
)


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
        command = [sys.executable, "-m", "tests.simulation", "--kind", mend.kind, "--hours", str(hours)]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=3600)
    seeds = re.findall(r"--seed (\d+)\n", ended.stderr)
    if ended.returncode and not seeds:
        raise RuntimeError(ended.stderr[-3000:])
    return seeds[-1] if seeds else None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.undone", description=__doc__)
    parser.add_argument("--hours", type=float, default=50_000, help="simulated for each mend, at most")
    parser.add_argument("--only", default="", help="faults with these words")
    arguments = parser.parse_args()
    sys.exit(command_line([mend for mend in MENDS if arguments.only in mend.fault], arguments.hours))
