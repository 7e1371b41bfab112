"""``python -m benchmarks.drift``: sixty days of bike rentals with a shift, and many endpoints without any.

Retraining on drift is compared with retraining every day, by the error on the next day. Nothing is served: the rule is
the server's own, on the rows of each day as its calls.
"""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor

from airflow_provider_azureml_classic.protocol.drift import DRIFTED, Terms
from airflow_provider_azureml_classic.server.counters.drift import judged, measured
from airflow_provider_azureml_classic.server.counters.ledger import Asked, ModelBins, Sum
from airflow_provider_azureml_classic.server.experiments.histogram import Expected
from benchmarks.common import ROOT, say

FEATURES = ("hr", "temp", "hum", "windspeed", "weathersit")
FIRST, DAYS, SHIFTED, TRAINED = 500, 60, 20, 45


def bikes() -> tuple[Any, Any, Any]:
    """Day, features and label of each hour."""
    with (ROOT.parent / "shared" / "data" / "bikes" / "hour.csv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter=";"))
    names = list(dict.fromkeys(row["dteday"] for row in rows))
    day = np.array([names.index(row["dteday"]) for row in rows])
    cells = [[float(row[name].replace(",", ".")) for name in (*FEATURES, "cnt")] for row in rows]
    table = np.array(cells)
    return day, table[:, :-1], table[:, -1]


def bins_of(features: Any) -> tuple[ModelBins, list[Any]]:
    """The bins of training rows, as a profile has them."""
    ends, expected = [], []
    for name, values in zip(FEATURES, features.T, strict=True):
        inner = np.unique(np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))
        ends.append(inner[inner < values.max()])
        shares = np.bincount(np.searchsorted(ends[-1], values), minlength=len(ends[-1]) + 1) / len(values)
        expected.append(Expected(name, len(shares), (*shares.tolist(), 0.0)))
    return ModelBins(len(features), tuple(expected)), ends


def has_drifted(bins: ModelBins, ends: list[Any], rows: Any) -> bool:
    """The server's verdict."""
    counts: list[int] = []
    for edge, values in zip(ends, rows.T, strict=True):
        counts += [*np.bincount(np.searchsorted(edge, values), minlength=len(edge) + 1).tolist(), 0, 0, 0]
    asked = Asked("bikes", "m", None, 1, Sum(len(rows), len(rows), len(rows), counts))
    return judged([measured(asked, bins, Terms())], Terms())[0].verdict == DRIFTED


def sixty_days(*, daily: bool) -> tuple[float, int, int | None]:
    """Mean absolute error, retrains, and calls from the shift to the first retrain after it."""
    day, features, label = bikes()
    features = features.copy()
    features[day >= FIRST + SHIFTED, 1] = 1 - 0.5 * features[day >= FIRST + SHIFTED, 1]
    errors, retrains, found, since = [], 0, None, FIRST
    model: Any = None
    bins: Any = None
    for now in range(FIRST, FIRST + DAYS):
        asked = features[(day >= max(since, now - 7)) & (day < now)]
        drifted = model is not None and len(asked) >= Terms.rows and has_drifted(*bins, asked)
        if model is None or daily or drifted:
            retrains, since = retrains + (model is not None), now
            if drifted and now > FIRST + SHIFTED and found is None:
                found = int(((day >= FIRST + SHIFTED) & (day < now)).sum())
            window = (day >= now - TRAINED) & (day < now)
            model = HistGradientBoostingRegressor(max_iter=60, random_state=0).fit(features[window], label[window])
            bins = bins_of(features[window])
        errors += np.abs(model.predict(features[day == now]) - label[day == now]).tolist()
    return float(np.mean(errors)), retrains, found


def main() -> None:
    """Print the figures."""
    for daily in (True, False):
        error, retrains, found = sixty_days(daily=daily)
        say(f"{'daily' if daily else 'on drift'}: error {error:.1f}, {retrains} retrains, found after {found} calls")


if __name__ == "__main__":
    main()
