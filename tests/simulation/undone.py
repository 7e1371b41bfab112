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
        "an update of older data is put live",
        "retraining/placing.py",
        "    if candidate.window.end < live:\n",
        "    if False:\n",
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
