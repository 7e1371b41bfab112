"""The rehearsal of an update, as far as both sides know it: what two models answered to the last calls of an endpoint.

Our addition: an operation of the server, whose answer is figures alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError

#: Fewer rows give no figures: they would say nothing of the models, and too much of the rows.
MIN_ROWS = 50
#: Shares of the rows at which quantiles are told.
AT = (0.05, 0.25, 0.5, 0.75, 0.95)
LIVE, NEW = "live", "new"
_MOST_LABELS = 50


@dataclass(frozen=True)
class Rehearsal:
    """What two models answered to the same rows.

    :param calls: last calls of the endpoint that are kept.
    :param rows: rows of them that both models were given; 0 where nothing is kept.
    :param refused: by model, rows that it refused.
    :param changed: of the rows that both answered, the share whose label is another one; of numbers, the share that
        moved by more than a quarter of what lies between the 5 % and the 95 % quantile of the live model's answers.
        ``None``: too few rows to say.
    :param stability: population stability index of the answers: of probabilities or numbers over the ten parts of the
        live model's; of labels where there are no probabilities.
    :param quantiles: by model, at :data:`AT`, of the probability (of the positive class, or else of the label that
        was given), or of the numbers.
    :param labels: by model, the share of each label.
    :param milliseconds: by model, the median time for one row.
    """

    calls: int = 0
    rows: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    changed: float | None = None
    stability: float | None = None
    quantiles: Mapping[str, list[float]] | None = None
    labels: Mapping[str, Mapping[str, float]] | None = None
    milliseconds: Mapping[str, float] | None = None

    @property
    def says(self) -> bool:
        """Whether there were rows enough to say anything."""
        return self.changed is not None

    @property
    def newly_refused(self) -> float:
        """Share of the rows that the new model refuses beyond those that the live one does."""
        more = self.refused.get(NEW, 0) - self.refused.get(LIVE, 0)
        return max(0.0, more / self.rows) if self.rows else 0.0

    def to_json(self) -> dict[str, Any]:
        """For an answer, and for receipts."""
        return asdict(self)

    #: As answers are written.
    to_wire = to_json

    @classmethod
    def from_json(cls, data: Any) -> Rehearsal:
        """The value that :meth:`to_json` wrote, also that of a later version.

        :param data: decoded JSON.
        :raises ProtocolError: it is something else.
        """
        try:
            labels = data.get("labels")
            return cls(
                calls=int(data["calls"]),
                rows=int(data["rows"]),
                refused={name: int(data["refused"].get(name, 0)) for name in (LIVE, NEW)},
                changed=_number(data["changed"]),
                stability=_number(data["stability"]),
                quantiles=_by_model(data.get("quantiles"), lambda many: [float(one) for one in many[: len(AT)]]),
                labels=_by_model(labels, lambda many: {str(k)[:200]: float(v) for k, v in _first(many)}),
                milliseconds=_by_model(data.get("milliseconds"), float),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise ProtocolError("The answer to a rehearsal cannot be read.", verb="rehearse_update") from None


def _first(many: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return list(many.items())[:_MOST_LABELS]


def _number(value: Any) -> float | None:
    number = None if value is None else float(value)
    if number is not None and not math.isfinite(number):
        raise ValueError
    return number


def _by_model(value: Any, read: Any) -> dict[str, Any] | None:
    return None if value is None else {name: read(value[name]) for name in (LIVE, NEW)}
