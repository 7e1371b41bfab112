"""Rehearsing an update on the last calls that its endpoint keeps: what is asked, how it is said, and what stops it.

No Airflow, no I/O of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.rehearsal import MIN_ROWS, NEW, Rehearsal
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource

#: Rehearse where that is possible; fail where it is not; do not.
AUTO, REQUIRE, OFF = "auto", "require", "off"
MODES = (AUTO, REQUIRE, OFF)
#: What may be limited, and what it is of a rehearsal.
MEASURES: Mapping[str, Callable[[Rehearsal], float]] = {
    "changed": lambda found: found.changed or 0.0,
    "stability": lambda found: found.stability or 0.0,
    "refused": lambda found: found.newly_refused,
}
#: Beyond these a rehearsal is announced, whether or not anything is limited; chosen by ``make rehearsals``.
UNUSUAL: Mapping[str, float] = {"changed": 0.15, "stability": 0.5, "refused": 0.01}


@dataclass(frozen=True)
class Outcome:
    """What came of a rehearsal.

    :param text: for people, one or two sentences.
    :param found: the figures; ``None``: there are none, and ``text`` says why.
    :param reason: why the update is stopped, as a sentence; ``None``: it goes on.
    """

    text: str
    found: Rehearsal | None = None
    reason: str | None = None

    @property
    def is_unusual(self) -> bool:
        """Whether somebody should look at it."""
        return self.found is not None and bool(_beyond(self.found, UNUSUAL))

    def to_json(self) -> dict[str, Any]:
        """For receipts."""
        figures = self.found.to_json() if self.found else None
        return {"text": self.text, "unusual": self.is_unusual, "figures": figures}


@dataclass(frozen=True)
class Rehearsing:
    """How updates are rehearsed.

    :param mode: one of :data:`MODES`.
    :param limits: beyond which an update is stopped, by measure.
    """

    mode: str = OFF
    limits: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, mode: str, max_change: Any) -> Rehearsing:
        """What a user says, checked.

        :param mode: ``auto``, ``require`` or ``off``.
        :param max_change: a share of labels, or a mapping of :data:`MEASURES` to numbers; ``None``: nothing is stopped.
        :raises ValueError: naming the option.
        """
        if mode not in MODES:
            raise ValueError(f"rehearsal is {mode!r}; it must be one of: {', '.join(MODES)}.")
        limits = (
            {} if max_change is None else max_change if isinstance(max_change, Mapping) else {"changed": max_change}
        )
        for name, limit in limits.items():
            if name not in MEASURES or isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
                raise ValueError(
                    f"max_change is {max_change!r}; it must be a share such as 0.1, or a mapping of "
                    f"{', '.join(MEASURES)} to numbers of 0 or more."
                )
        if limits and mode == OFF:
            raise ValueError("max_change needs a rehearsal: use rehearsal='auto' or 'require'.")
        return cls(mode, {name: float(limit) for name, limit in limits.items()})

    def ask(
        self, client: Verbs, endpoint: Endpoint, resource: Resource, location: BlobReference, model: Digests | None
    ) -> Program[Outcome | None]:
        """Rehearse an update; ``None`` if it is not to be rehearsed.

        :param client: of the workspace.
        :param endpoint: the endpoint, as read just before.
        :param resource: with the live model.
        :param location: of the new one.
        :param model: digests of the new one, if known.
        :raises AzureMLClassicError: with ``require``, the service does not answer, or offers no rehearsals.
        :raises ValueError: with ``require``, too few calls are kept.
        """
        if self.mode == OFF:
            return None
        try:
            if resource.digests is None:
                raise rejection("OperationNotSupported", "This service offers no rehearsals.")
            new = Resource(resource.name, location)
            found: Rehearsal = yield Verbs.rehearse_update.steps(
                client, endpoint, new, model_file=model.file if model else None
            )
        except AzureMLClassicError as error:
            if self.mode == REQUIRE:
                raise
            return Outcome(f"The update was not rehearsed: {error.message}")
        if not found.says:
            text = _nothing(endpoint.name, found)
            if self.mode == REQUIRE:
                raise ValueError(f"{text} rehearsal='require' needs them.")
            return Outcome(text, found)
        return self._judged(endpoint.name, found)

    def _judged(self, name: str, found: Rehearsal) -> Outcome:
        beyond = _beyond(found, self.limits)
        text = sentence(found)
        reason = f"Endpoint {name!r} keeps its model: {' '.join(beyond)} {text}" if beyond else None
        return Outcome(text, found, reason)


def _beyond(found: Rehearsal, limits: Mapping[str, float]) -> list[str]:
    if not found.says:
        return []
    figures = {name: MEASURES[name](found) for name in limits}
    return [
        f"{_NAMES[name]} {_figure(name, figure)}, over the {_figure(name, limits[name])} that is allowed."
        for name, figure in figures.items()
        if figure > limits[name]
    ]


_NAMES = {
    "changed": "Of the answers to its last calls change",
    "stability": "The stability index of these answers is",
    "refused": "Of the rows of its last calls the new model refuses, beyond those that the live one does,",
}


def _figure(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "stability" else f"{100 * value:.1f} %"


def _nothing(name: str, found: Rehearsal) -> str:
    kept = f"{found.rows} rows of calls are" if found.rows else "no calls are"
    return (
        f"The update was not rehearsed: {kept} kept of endpoint {name!r}, and {MIN_ROWS} rows are needed. The "
        "workspace's owner decides that, with keep_calls of the experiment or in the portal."
    )


def sentence(found: Rehearsal) -> str:
    """What a rehearsal found.

    :param found: with rows enough.
    """
    refused = found.refused.get(NEW, 0)
    more = f" The new model refuses {refused:,} of the rows." if refused else ""
    index = "" if found.stability is None else f", stability index {found.stability:.3f}"
    return (
        f"Rehearsed on {found.rows:,} rows of the last {found.calls:,} calls: {100 * (found.changed or 0):.1f} % of "
        f"the answers change{index}{_middle(found)}.{more}"
    )


def _middle(found: Rehearsal) -> str:
    if not found.quantiles:
        return ""
    live, new = (many[len(many) // 2] for many in found.quantiles.values())
    return f", the middle one from {live:.4g} to {new:.4g}"
