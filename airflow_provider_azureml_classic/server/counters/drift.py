"""How far what is asked is from what was trained: indices and tests, corrected for all features of all endpoints.

The population stability index says how large a difference is, whatever the number of rows; the test says whether it can
be chance. A drift is both: large, and not chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from threading import Lock
from time import monotonic

from airflow_provider_azureml_classic.protocol.drift import (
    DRIFTED,
    FALSE_DISCOVERY_RATE,
    MOST_FEATURES,
    NOT_KNOWN,
    STEADY,
    TOO_FEW,
    EndpointDrift,
    FeatureDrift,
    Terms,
)
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.counters.ledger import Asked, Ledger, ModelBins, Sum
from airflow_provider_azureml_classic.server.experiments.histogram import MORE, Expected

#: Rows of the calls that a bin must be expected to have; rarer ones are taken together. With five, chance called more
#: a drift than it may: 2 of 30 web services where none drifted.
_EXPECTED = 10.0
#: Seconds for which an answer is given again: with thousands of endpoints it takes about a second to make.
KEPT_SECONDS = 15.0
_KEPT_ANSWERS = 16
_SMALLEST = 1e-300


class Drift:
    """Tells the drift of endpoints.

    :param ledger: what was asked.
    :param settle: counts what waits.
    :param clock: gives the present time.
    """

    def __init__(self, ledger: Ledger, settle: Callable[[], None], clock: Clock) -> None:
        self._ledger = ledger
        self._settle = settle
        self._clock = clock
        self._lock = Lock()
        self._answers: dict[tuple[str, Terms], tuple[float, tuple[EndpointDrift, ...]]] = {}

    def of_service(self, service_id: str, terms: Terms, *, anew: bool = True) -> tuple[EndpointDrift, ...]:
        """The drift of each endpoint of a web service, by name.

        :param service_id: its id.
        :param terms: what counts as one.
        :param anew: not the answer of some seconds ago, as for the further pages of a list.
        """
        key = service_id, terms
        with self._lock:
            at, answer = self._answers.get(key, (0.0, ()))
            if not anew and at and monotonic() - at < KEPT_SECONDS:
                return answer
            self._settle()
            answer = self._compute(service_id, terms)
            if len(self._answers) >= _KEPT_ANSWERS:
                self._answers.clear()
            self._answers[key] = monotonic(), answer
            return answer

    def largest(self, count: int) -> list[tuple[str, EndpointDrift]]:
        """The endpoints with the largest index, each with the id of its web service.

        :param count: how many, at most.
        """
        services = self._ledger.services()
        drifts = [(name, one) for name in services for one in self.of_service(name, Terms(), anew=False) if one.psi]
        return sorted(drifts, key=lambda pair: -pair[1].psi)[:count]

    def _compute(self, service_id: str, terms: Terms) -> tuple[EndpointDrift, ...]:
        endpoints = self._ledger.of_service(service_id, self._clock().toordinal() - terms.days + 1)
        bins = self._ledger.bins({one.digest for one in endpoints if one.total})
        return judged([measured(one, bins.get(one.digest), terms) for one in endpoints], terms)


def measured(asked: Asked, bins: ModelBins | None, terms: Terms) -> EndpointDrift:
    """The features of an endpoint beside those of the training, not corrected and without a verdict.

    :param asked: what was asked of its model.
    :param bins: of the model.
    :param terms: what counts as a drift.
    """
    total = asked.total
    if total is None or bins is None or asked.since is None:
        return EndpointDrift(asked.name, TOO_FEW, asked.digest)
    enough, start, features = total.counted >= terms.rows, 0, []
    for expected in bins.features:
        end = start + expected.bins + MORE
        compared = expected if enough and expected.name not in terms.ignore else replace(expected, shares=None)
        features.append(_feature(compared, expected.shares, bins.rows, total, total.counts[start:end]))
        start = end
    known = any(one.shares is not None for one in bins.features)
    verdict = NOT_KNOWN if not known else STEADY if enough else TOO_FEW
    since = date.fromordinal(asked.since)
    return EndpointDrift(
        asked.name, verdict, asked.digest, total.calls, total.rows, total.counted, since, tuple(features)
    )


def _feature(
    expected: Expected, before: Sequence[float] | None, rows: int, total: Sum, counts: Sequence[int]
) -> FeatureDrift:
    missing, unknown, outside = counts[expected.bins :]
    psi, p = (None, None)
    if expected.shares is not None:
        psi, p = difference([*expected.shares, 0.0], rows, [*counts[: expected.bins], missing, unknown])
    share = 1 / max(1, total.counted)
    gone = before[-1] if before is not None else None
    return FeatureDrift(
        expected.name,
        psi if psi is None else round(psi, 4),
        p,
        *(round(missing * share, 4), gone, round(unknown * share, 4), round(outside * share, 4)),
    )


def judged(endpoints: Sequence[EndpointDrift], terms: Terms) -> tuple[EndpointDrift, ...]:
    """Verdicts, with what is due to chance corrected over all of them (Benjamini and Hochberg 1995).

    :param endpoints: see :func:`measured`.
    :param terms: what counts as a drift.
    """
    tests = [one.p for endpoint in endpoints for one in endpoint.features if one.p is not None]
    corrected = dict(zip(sorted(tests), adjusted(tests), strict=True))
    answer = []
    for endpoint in endpoints:
        features = [one if one.p is None else replace(one, p=corrected[one.p]) for one in endpoint.features]
        features.sort(key=lambda one: -(one.psi if one.psi is not None else -1.0))
        drifted = tuple(one.name for one in features if _has_drifted(one, terms))
        answer.append(
            replace(
                endpoint,
                verdict=DRIFTED if drifted else endpoint.verdict,
                features=tuple(features[:MOST_FEATURES]),
                drifted=drifted,
            )
        )
    return tuple(answer)


def _has_drifted(feature: FeatureDrift, terms: Terms) -> bool:
    if feature.psi is None or feature.p is None:
        return False
    return feature.psi >= terms.psi and feature.p <= FALSE_DISCOVERY_RATE


def adjusted(tests: Sequence[float]) -> list[float]:
    """The least rate of false discoveries at which each is one, in the order of their size.

    :param tests: probabilities, in any order.
    """
    ordered, least, answer = sorted(tests), 1.0, []
    for place in range(len(ordered), 0, -1):
        least = min(least, ordered[place - 1] * len(ordered) / place)
        answer.append(least)
    return answer[::-1]


def difference(shares: Sequence[float], rows: int, counts: Sequence[int]) -> tuple[float, float]:
    """Population stability index of calls beside training rows, and the probability that both are of one distribution.

    :param shares: of the training rows in each bin.
    :param rows: of the training.
    :param counts: rows of the calls in each bin.
    """
    asked = sum(counts)
    bins = _merged(shares, rows, counts, asked)
    if len(bins) < 2:
        return 0.0, 1.0
    index = square = 0.0
    for before, now in bins:
        was = (before * rows + 0.5) / (rows + 0.5 * len(bins))
        is_now = (now + 0.5) / (asked + 0.5 * len(bins))
        index += (is_now - was) * math.log(is_now / was)
        square += (now / asked - before) ** 2 / ((before * rows + now) / (rows + asked))
    return index, upper_tail(square * rows * asked / (rows + asked), len(bins) - 1)


def _merged(shares: Sequence[float], rows: int, counts: Sequence[int], asked: int) -> list[tuple[float, int]]:
    """The bins, with rare ones taken together: there the test would be wrong, and the index large by chance."""
    both = sorted((share * rows + count, share, count) for share, count in zip(shares, counts, strict=True))
    merged: list[tuple[float, int]] = []
    pooled, before, now = 0.0, 0.0, 0
    for together, share, count in both:
        pooled, before, now = pooled + together, before + share, now + count
        if pooled * asked / (rows + asked) >= _EXPECTED:
            merged.append((before, now))
            pooled, before, now = 0.0, 0.0, 0
    if merged and pooled:
        merged[-1] = (merged[-1][0] + before, merged[-1][1] + now)
    return merged


def upper_tail(square: float, degrees: int) -> float:
    """Probability that a chi-square variable is at least so large.

    :param square: its value.
    :param degrees: of freedom.
    """
    half = square / 2
    tail, shape = (math.erfc(math.sqrt(half)), 0.5) if degrees % 2 else (math.exp(-half), 1.0)
    while shape < degrees / 2 and half > 0:
        tail += math.exp(shape * math.log(half) - half - math.lgamma(shape + 1))
        shape += 1
    return min(1.0, max(_SMALLEST, tail))
