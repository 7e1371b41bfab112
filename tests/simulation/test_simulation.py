"""Some simulated days: jobs, updates and proofs, with a network and processes that fail at any step."""

from __future__ import annotations

import pytest

from tests.simulation.__main__ import broken
from tests.simulation.days import Days
from tests.simulation.simulations import SIMULATIONS
from tests.simulation.undone import HELD_BY_TESTS, MENDS, Mend
from tests.simulation.world import Violation
from tests.support.names import named_tests

#: Seeds of each kind: some seconds in all.
SEEDS = {"days": 6, "fleets": 3, "servers": 1}


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(SIMULATIONS))
def test_no_seed_breaks_a_promise(kind: str) -> None:
    """Whatever is lost, late, repeated or killed: no job has two effects, no endpoint goes back, each receipt is true,
    and everything ends.
    """
    for seed in range(SEEDS[kind]):
        simulation = SIMULATIONS[kind](seed)
        try:
            simulation.run()
        except Violation as violation:
            pytest.fail(f"{broken(kind, seed, simulation)}{violation}")


def test_a_seed_decides_everything() -> None:
    """The same one gives the same steps at the same moments."""
    one, other = Days(7), Days(7)
    one.run()
    other.run()
    assert one.world.counts["messages"] > 100
    assert (list(one.world.trace), one.hours) == (list(other.world.trace), other.hours)


def test_a_broken_promise_is_told_with_its_trace() -> None:
    """The last steps, and the command that repeats them."""
    days = Days(7)
    days.world.later(86400 * 1.5, lambda: days.world.fail("Somebody broke it."))
    with pytest.raises(Violation, match="Somebody broke it"):
        days.run()
    text = broken("days", 7, days)
    assert "day  1 12:00:00.000  !                      Somebody broke it." in text
    assert "python -m tests.simulation --kind days --seed 7" in text


@pytest.mark.parametrize("mend", MENDS, ids=[mend.fault[:40] for mend in MENDS])
def test_mends_can_be_taken_out(mend: Mend) -> None:
    """The lines that are taken out to see whether a seed finds that are there, and the rest can still be read."""
    compile(mend.source(), mend.path, "exec")


def test_the_other_faults_are_held_by_tests() -> None:
    """Each names a test that is there."""
    for fault, name in HELD_BY_TESTS.items():
        path, _, function = name.partition("::")
        assert (function or next(iter(named_tests(path)))) in named_tests(path), fault
