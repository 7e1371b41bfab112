"""A fleet of 10,000 endpoints in ten mapped parts at once in one process, beside one part with a tenth of them: what
each endpoint costs, and what is kept.

    python -m benchmarks.fleet_parts [ENDPOINTS]

Engine, memory and client are the provider's own; service, network and time are those of the simulations, so that no
training is waited for.
"""

from __future__ import annotations

import sys
import time

from airflow_provider_azureml_classic.fleet.rows import Outcome
from benchmarks.common import Figure, Result, say
from benchmarks.processes import alone, resident
from tests.simulation.parts import Parts

_ENDPOINTS, _PARTS = 10_000, 10
#: Bytes of one value of the task state store at which Airflow warns.
_WARNS = 64 << 10


def measure(endpoints: int, parts: int) -> dict[str, float]:
    """What a fleet costs.

    :param endpoints: of all parts.
    :param parts: how many run at once.
    """
    # What the libraries take is not the fleet's.
    Parts(parts, parts).run()
    before, processor = resident(), time.process_time()
    fleet = Parts(endpoints, parts)
    fleet.run()
    seconds, sizes = time.process_time() - processor, fleet.state_sizes()
    rows = [row for part in fleet.parts for row in part.rows]
    if any(row.outcome is not Outcome.UPDATED for row in rows):
        raise RuntimeError("Not every endpoint was updated.")
    polls = fleet.calls.pop("get_job")
    found = {
        "calls for each endpoint, without polls": fleet.calls.total() / endpoints,
        "polls for each endpoint": polls / endpoints,
        "processor ms for each endpoint": 1000 * seconds / endpoints,
        "jobs in flight at most": fleet.active,
        "largest value kept, bytes": max(sizes),
        "bytes kept for each endpoint": sum(sizes) / endpoints,
        "memory MiB, service included": (resident() - before) / 2**20,
    }
    say(", ".join(f"{name} {value:.4g}" for name, value in found.items()))
    return found


def run(endpoints: int = _ENDPOINTS) -> Result:
    """Measure.

    :param endpoints: of the fleet in parts.
    """
    few = endpoints // _PARTS
    one, all_ = alone(measure, few, 1), alone(measure, endpoints, _PARTS)
    result = Result("fleet_parts", f"A fleet of {endpoints:,} endpoints in {_PARTS} parts")
    result.columns = ["", f"1 part of {few:,}", f"{_PARTS} parts of {few:,}"]
    result.table = [[name, f"{one[name]:.4g}", f"{all_[name]:.4g}"] for name in all_]
    aims = {
        "calls for each endpoint, without polls": 1.1,
        "polls for each endpoint": 1.2,
        "bytes kept for each endpoint": 1.1,
    }
    for name, aim in aims.items():
        texts = f"{all_[name]:.4g}", f"1 part of {few:,} {one[name]:.4g}"
        result.figures.append(Figure(name, *texts, all_[name] / one[name], f"<= {aim}"))
    largest, memory = all_["largest value kept, bytes"], all_["memory MiB, service included"]
    name = f"memory of {_PARTS} parts in one process, of 400 MiB allowed"
    result.figures += [
        Figure("largest value kept, of 64 KiB", f"{largest:.0f} B", f"{_WARNS} B", largest / _WARNS, "<= 1"),
        Figure(name, f"{memory:.0f} MiB", "400 MiB", memory / 400, "<= 1"),
    ]
    name = "processor ms for each endpoint"
    lines = {name: [[few, one[name]], [endpoints, all_[name]]]}
    result.chart = {"kind": "lines", "title": "Milliseconds by number of endpoints", "lines": lines}
    result.notes = ["Service, network and time are simulated in the same process: what they take is in all figures."]
    return result


if __name__ == "__main__":
    begun = time.monotonic()
    measured = run(*map(int, sys.argv[1:]))
    measured.show()
    measured.save(time.monotonic() - begun)
