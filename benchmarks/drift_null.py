"""How often drift is told where there is none: ``python -m benchmarks.drift_null``.

Many web services of a thousand endpoints, each with ten features, whose callers ask exactly what the models were
trained on. The verdicts are the server's own; a false event is one of an endpoint that is called drifted.
"""

from __future__ import annotations

import numpy as np

from airflow_provider_azureml_classic.protocol.drift import DRIFTED, Terms
from airflow_provider_azureml_classic.server.counters.drift import judged, measured
from airflow_provider_azureml_classic.server.counters.ledger import Asked, ModelBins, Sum
from airflow_provider_azureml_classic.server.experiments.histogram import Expected
from benchmarks.common import say

SERVICES, ENDPOINTS, FEATURES, BINS, TRAINED = 30, 1_000, 10, 10, 1_000
#: Rows that were asked of an endpoint: the fewest that tell anything, and many.
ASKED = (100, 10_000)


def false_events(seed: int, rows: int, terms: Terms, endpoints: int = ENDPOINTS, features: int = FEATURES) -> int:
    """Endpoints of one web service that are called drifted, though none is.

    :param seed: of the rows.
    :param rows: asked of each endpoint.
    :param terms: what counts as a drift.
    :param endpoints: of the web service.
    :param features: of each model.
    """
    draw, found = np.random.default_rng(seed), []
    for number in range(endpoints):
        expected, counts = [], list[int]()
        for feature in range(features):
            true = draw.dirichlet(np.full(BINS, 2.0))
            shares = draw.multinomial(TRAINED, true) / TRAINED
            expected.append(Expected(f"x{feature}", BINS, (*shares.tolist(), 0.0)))
            # Behind the bins: cells that are missing, not known, or outside of the range.
            counts += [*draw.multinomial(rows, true).tolist(), 0, 0, 0]
        asked = Asked(f"e{number}", "m", None, 1, Sum(rows, rows, rows, counts))
        found.append(measured(asked, ModelBins(TRAINED, tuple(expected)), terms))
    return sum(one.verdict == DRIFTED for one in judged(found, terms))


def main() -> None:
    """Print the figures."""
    for rows in ASKED:
        for name, terms in (("as by default", Terms()), ("by chance alone (psi 0.01)", Terms(psi=0.01))):
            events = [false_events(seed, rows, terms) for seed in range(SERVICES)]
            wrong = sum(count > 0 for count in events)
            say(
                f"{rows:,} rows, {name}: {sum(events)} false events of {SERVICES * ENDPOINTS:,} endpoints; "
                f"{wrong} of {SERVICES} services with any"
            )


if __name__ == "__main__":
    main()
