"""How much worse one model is than another, as far as the rows tell: intervals by paired bootstrap.

Both models answer the same rows, so rows are drawn together with both answers: what makes a row hard for both cancels
out. Pure: no I/O, no Airflow, and no numpy, which not every Airflow installation has.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist, stdev
from typing import Any

from airflow_provider_azureml_classic.retraining.quality import Allowance, Answers, Metric

#: Fewer rows than this decide nothing: the interval of a mean over them is not known well enough.
FEW_ROWS = 30
#: Samples that the spread is taken of: it is then known to 1 / sqrt(2 · 400), about 4 %.
_SAMPLES = 400
#: Rows of a sample: of more rows, the spread is measured on so many, and shrinks with the square root of their number.
_LARGEST_SAMPLE = 2_000


class Verdict(str, Enum):
    """What the rows say of a new model in comparison with the live one."""

    WORSE = "worse"
    NO_WORSE = "no worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Difference:
    """By how much the candidate is worse than the live model; negative where it is better.

    :param candidate: the metric of the new model on all rows.
    :param live: that of the live model.
    :param gap: their difference on all rows, in the metric's own unit.
    :param low: lower end of the interval.
    :param high: upper end of the interval.
    :param allowed: by how much it may be worse.
    :param rows: how many it was measured on.
    :param rule: what is allowed, as the user wrote it.
    """

    candidate: float
    live: float
    gap: float
    low: float
    high: float
    allowed: float
    rows: int
    rule: str = ""

    @property
    def verdict(self) -> Verdict:
        """*Worse* if the whole interval lies beyond what is allowed, *no worse* if it lies within."""
        if not self._is_known:
            return Verdict.UNDECIDED
        if self.low > self._bound:
            return Verdict.WORSE
        return Verdict.NO_WORSE if self.high <= self._bound else Verdict.UNDECIDED

    @property
    def is_within(self) -> bool:
        """Whether the difference on these rows, whatever it is worth, is allowed."""
        return self.gap <= self._bound

    @property
    def _bound(self) -> float:
        # A rounding error is no difference.
        return self.allowed + 1e-9 * max(abs(self.candidate), abs(self.live))

    def to_json(self) -> dict[str, Any]:
        """For XCom; a bound that is not known is ``None``."""
        low, high = (None if math.isnan(end) else end for end in (self.low, self.high))
        known = {name: getattr(self, name) for name in ("candidate", "live", "gap", "allowed", "rows")}
        return {**known, "low": low, "high": high, "verdict": self.verdict.value}

    def __str__(self) -> str:
        """As the end of a sentence that begins with the metric and "is"."""
        values = f"{self.candidate:.6g}, the live model's {self.live:.6g}"
        gap = f"worse by {self.gap:.6g}, of which {self.rule or format(self.allowed, 'g')} is allowed"
        if not self._is_known:
            return f"{values}: {gap}; {self.rows} rows are too few to be sure"
        return f"{values}: {gap}; surely between {self.low:.3g} and {self.high:.3g}"

    @property
    def _is_known(self) -> bool:
        return self.rows >= FEW_ROWS and not math.isnan(self.low) and not math.isnan(self.high)


def difference(
    metric: Metric, candidate: Answers, live: Answers, allowance: Allowance, risk: float, *, paired: bool = True
) -> Difference:
    """The interval of the difference of one metric.

    The interval is the difference on all rows and so many standard deviations of the bootstrap to either side as
    leave ``risk`` beyond each end. (An interval of percentiles needs ten thousand samples for a risk of one in a
    thousand.)

    :param metric: what to compare.
    :param candidate: answers of the new model.
    :param live: answers of the live model to the same rows.
    :param allowance: by how much the new one may be worse.
    :param risk: chance that the true difference lies below the interval, and that it lies above; see :func:`shared`.
    :param paired: the answers are to the same rows; else each model's rows are drawn by themselves.
    :raises ValueError: the metric is not defined on these rows.
    """
    mine, others = range(len(candidate.labels)), range(len(live.labels))
    rows = min(len(mine), len(others))
    new_over, old_over = metric.over(candidate), metric.over(live)
    new, old = new_over(mine), old_over(others)
    if new is None or old is None:
        raise ValueError(f"It is not defined for the answers of the {'new' if new is None else 'live'} model.")
    sign = 1 if metric.lower_is_better else -1
    allowed = allowance.of(old)
    drawn = min(rows, _LARGEST_SAMPLE)
    # Seeded: the same answers give the same verdict whenever a task is repeated.
    source = random.Random(0)  # noqa: S311 - not for secrets
    gaps = []
    for _ in range(_SAMPLES):
        sample = source.choices(mine, k=drawn)
        other = sample if paired else source.choices(others, k=drawn)
        some_new, some_old = new_over(sample), old_over(other)
        if some_new is not None and some_old is not None:
            # What is allowed may be a share of the live model's value, which varies with the rows as well.
            gaps.append(sign * (some_new - some_old) - allowance.of(some_old))
    gap = sign * (new - old)
    if len(gaps) < _SAMPLES // 2:
        return Difference(new, old, gap, math.nan, math.nan, allowed, rows, str(allowance))
    reach = _quantile(1 - risk, rows - 1) * stdev(gaps) * math.sqrt(drawn / rows)
    return Difference(new, old, gap, gap - reach, gap + reach, allowed, rows, str(allowance))


#: Chance that an equally good model is called worse by a gate as a whole.
RISK = 0.01


def differences_of(
    candidate: Answers,
    live: Answers,
    allowances: Mapping[str, Allowance],
    metrics: Mapping[str, Metric],
    sets: int = 1,
    *,
    paired: bool = True,
) -> dict[str, Difference]:
    """The intervals of all metrics that a rule names.

    :param candidate: answers of the new model.
    :param live: answers of the live model to the same rows.
    :param allowances: by metric.
    :param metrics: how to compute them.
    :param sets: sets of rows on which the models are compared, this one among them.
    :param paired: see :func:`difference`.
    :raises ValueError: a metric is not defined for one of them.
    """
    risk = shared(RISK, sets * len(allowances))
    differences = {}
    for name, allowance in allowances.items():
        try:
            differences[name] = difference(metrics[name], candidate, live, allowance, risk, paired=paired)
        except ValueError as error:
            raise ValueError(f"The metric {name!r} cannot be compared. {error}") from None
    return differences


def shared(risk: float, comparisons: int) -> float:
    """The risk of each of several comparisons, so that all of them together have this one (Bonferroni's inequality,
    which holds whatever they have in common).

    :param risk: that any of them finds a difference where there is none.
    :param comparisons: how many there are.
    """
    return risk / max(1, comparisons)


def _quantile(chance: float, freedom: int) -> float:
    """Of Student's distribution, by the expansion around the normal one of Abramowitz and Stegun (26.7.5)."""
    z, n = NormalDist().inv_cdf(chance), max(freedom, 1)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
