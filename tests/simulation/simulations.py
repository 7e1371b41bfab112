"""The simulations there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tests.simulation.days import Days
from tests.simulation.fleets import Fleets
from tests.simulation.servers import Servers
from tests.simulation.world import World


class Simulation(Protocol):
    """One seed's."""

    world: World

    @property
    def hours(self) -> float:
        """Simulated so far."""

    def run(self) -> None:
        """Run it.

        :raises Violation: something happened that must not.
        """


#: By name.
SIMULATIONS: dict[str, Callable[[int], Simulation]] = {"days": Days, "fleets": Fleets, "servers": Servers}
