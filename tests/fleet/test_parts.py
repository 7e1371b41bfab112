"""A fleet in mapped parts that run at once."""

from __future__ import annotations

import pytest

from airflow_provider_azureml_classic.fleet.rows import Outcome
from tests.simulation.parts import MOST, Parts


@pytest.mark.slow
def test_parts_cost_what_their_endpoints_cost() -> None:
    """Ten parts at once in a web service with many more endpoints: each endpoint is trained, added and updated once; no
    part asks for all endpoints; no value that is kept comes near the size at which Airflow warns."""
    one, ten = Parts(10, 1), Parts(60, 10, there=100)
    for fleet in (one, ten):
        fleet.run()
        rows = [row for part in fleet.parts for row in part.rows]
        assert {row.outcome for row in rows} == {Outcome.UPDATED}
        once = ("submit_job", "start_job", "add_endpoint", "patch_endpoint")
        assert {fleet.calls[name] for name in once} == {len(rows)}
        assert fleet.calls["list_endpoints"] == 0
        assert fleet.active <= MOST
        assert max(fleet.state_sizes()) < 40_000
    for fleet in (one, ten):
        # Of each part, one call more finds its trainer before it submits, and one before it starts.
        fleet.calls["get_endpoint"] -= 2 * len(fleet.parts)
    assert one.calls["get_endpoint"] / 10 == ten.calls["get_endpoint"] / 60
    # A job takes 35 to 120 s; the random durations of ten jobs are not those of sixty.
    assert ten.calls["get_job"] / 60 < 1.5 * one.calls["get_job"] / 10
