"""``python -m tests.simulation --hours 10000``: simulate until a promise is broken, or so many hours are over.

``--seed N`` repeats one seed and prints the end of its trace.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.simulations import SIMULATIONS, Simulation


def main() -> int:
    """Run simulations; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--hours", type=float, default=1000, help="simulated hours, at least")
    parser.add_argument("--seed", type=int, help="the only seed, whose trace is printed")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kind", choices=sorted(SIMULATIONS), help="of one kind only")
    options = parser.parse_args()
    # What servers say of jobs that begin anew would hide what is told here.
    logging.disable(logging.CRITICAL)
    kinds = [options.kind] if options.kind else sorted(SIMULATIONS)
    seed, hours, began, counts = options.seed or options.first, 0.0, time.monotonic(), Counter[str]()
    while hours < options.hours:
        for kind in kinds:
            simulation: Simulation = SIMULATIONS[kind](seed)
            try:
                simulation.run()
            except Exception as error:
                print(f"{broken(kind, seed, simulation)}\n{type(error).__name__}: {error}", file=sys.stderr)
                return 1
            hours += simulation.hours
            counts.update(simulation.world.counts)
        if options.seed is not None:
            print("\n".join(simulation.world.trace))
            break
        seed += 1
    seconds = time.monotonic() - began
    print(f"{hours:,.0f} simulated hours in {seconds:.1f} s, {hours / seconds * 60:,.0f} a minute; nothing was broken.")
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    return 0


def broken(kind: str, seed: int, simulation: Simulation) -> str:
    """The end of the trace of a seed that broke a promise, and how to repeat it."""
    lines = "\n".join(list(simulation.world.trace)[-40:])
    return f"{lines}\n\nRepeat it: python -m tests.simulation --kind {kind} --seed {seed}\n"


if __name__ == "__main__":
    sys.exit(main())
