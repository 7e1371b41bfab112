"""What all measurements share: results, statistics, processors."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
#: Environments of the peers and everything that a run leaves behind; not part of the repository.
WORK = ROOT / ".bench"


@dataclass
class Figure:
    """One figure: ours as a ratio to a baseline of the same run.

    :param name: what was measured.
    :param ours: our value, as text with its unit.
    :param baseline: the other value, as text, and whose it is.
    :param ratio: ours divided by the baseline's, or the other way round where ``aim`` says so.
    :param aim: what is aimed at, as a sign and a number: ``">= 8"``; empty where there is none.
    """

    name: str
    ours: str
    baseline: str
    ratio: float
    aim: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; ``None`` without one."""
        if not self.aim:
            return None
        sign, number = self.aim.split()
        return self.ratio >= float(number) if sign == ">=" else self.ratio <= float(number)


@dataclass
class Result:
    """The outcome of one row of measurements.

    :param row: its name on the command line.
    :param title: what it is about.
    :param figures: the figures that have aims.
    :param columns: heading of the table.
    :param table: all measured values.
    :param noise: what says how steady the machine was.
    :param notes: what a reader must know to judge.
    :param chart: what :mod:`benchmarks.charts` draws.
    """

    row: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    table: list[list[Any]] = field(default_factory=list)
    noise: str = ""
    notes: list[str] = field(default_factory=list)
    chart: dict[str, Any] = field(default_factory=dict)

    def save(self, seconds: float) -> None:
        """Write the result as JSON.

        :param seconds: how long the measurement took.
        """
        RESULTS.mkdir(exist_ok=True)
        figures = [{**asdict(figure), "met": figure.met} for figure in self.figures]
        data = {**asdict(self), "figures": figures, "machine": machine(), "seconds": round(seconds)}
        data["measured"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        (RESULTS / f"{self.row}.json").write_text(json.dumps(data, indent=1) + "\n")

    def show(self) -> None:
        """Print the table and the figures."""
        lines = [self.columns, *([str(cell) for cell in line] for line in self.table)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        print(f"\n{self.title}")
        for line in lines:
            print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        for figure in self.figures:
            verdict = {None: "", True: "met", False: "NOT MET"}[figure.met]
            print(f"  -> {figure.name}: {figure.ours} against {figure.baseline}: {figure.ratio:.3g} x", end="")
            print(f" (aim {figure.aim}: {verdict})" if figure.aim else "")
        for note in filter(None, (self.noise, *self.notes)):
            print(f"  {note}")


def machine() -> dict[str, Any]:
    """What was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory": f"{memory:.0f} GiB",
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def say(text: str) -> None:
    """Tell the reader what is going on.

    :param text: one line.
    """
    print(f"  [{time.strftime('%H:%M:%S')}] {text}", flush=True)


def median(values: Sequence[float]) -> float:
    """The middle value.

    :param values: at least one.
    """
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """Largest less smallest value as a share of the median: the noise of a repeated measurement.

    :param values: at least one.
    """
    return (max(values) - min(values)) / median(values) if median(values) else 0.0


def interleaved(rounds: int, measures: dict[str, Callable[[], Any]]) -> dict[str, list[Any]]:
    """Repeat several measurements in turn, so that a change of the machine meets all of them.

    :param rounds: how often.
    :param measures: what to call by name.
    """
    found: dict[str, list[Any]] = {name: [] for name in measures}
    for number in range(rounds):
        # Every second round in the other direction: a steady drift cancels out.
        for name in list(measures)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(measures[name]())
            say(f"round {number + 1} of {rounds}: {name}: {_short(found[name][-1])}")
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pinned(core: int) -> list[str]:
    """What to put before a command so that it runs on one core; nothing where that cannot be said.

    :param core: number of the core.
    """
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]
