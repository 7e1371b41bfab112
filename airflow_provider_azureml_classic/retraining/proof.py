"""Proof that an update is live: 200 to a PATCH means accepted, not live (azure-docs issue 41739).

Three levels, strongest last: ``resource`` (GET shows the new location), ``version`` (the endpoint's version or ``ETag``
has changed), ``score`` (golden rows get the answers that the new model gives). Golden rows come with the training
job's evaluation. Pure: no I/O, no Airflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.digests import Digests, same_model
from airflow_provider_azureml_classic.protocol.messages import check_members
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.evaluation import same

#: Right answers in a row before "score" counts as proved: a service behind a balancer may be half updated.
ROUNDS = 3


#: The answers that a user expects; see :func:`as_expected`.
Expectation = Callable[[list[dict[str, Any]]], Any] | Sequence[Mapping[str, Any]]


class Level(str, Enum):
    """How an update is proved."""

    RESOURCE = "resource"
    VERSION = "version"
    SCORE = "score"
    CONTENT = "content"

    @property
    def is_scored(self) -> bool:
        """Whether its proof is in answers of the endpoint."""
        return self in (Level.SCORE, Level.CONTENT)


def as_expected(expect: Expectation | None, answers: Sequence[Mapping[str, Any]], tolerance: float) -> bool:
    """Whether an endpoint's answers are what a user expects.

    :param expect: called with the answers; or the answers themselves, one mapping a row with the columns that count;
        ``None`` expects nothing.
    :param answers: one mapping a row.
    :param tolerance: by which numbers may differ, absolutely or relative to the larger one.
    """
    if expect is None:
        return True
    if callable(expect):
        return bool(expect(list(map(dict, answers))))
    return len(expect) == len(answers) and all(
        same(value, answer.get(name), tolerance)
        for row, answer in zip(expect, answers, strict=True)
        for name, value in row.items()
    )


def shows(endpoint: Endpoint, resource: str, location: BlobReference) -> bool:
    """Whether an endpoint names ``location`` as its resource's model.

    :param endpoint: as read after the PATCH.
    :param resource: name of the resource.
    :param location: the model that was put live; a bare path is compared by path.
    """
    live = endpoint.resource(resource).location
    if live is None:
        return False
    return (live if location.base_location else BlobReference(live.relative_location)).same_place(location)


@dataclass(frozen=True)
class Patch:
    """The PATCH of an update, until it is proved: what has to be seen, and what was live before. The task remembers it
    and hands it to the triggerer as plain JSON, so it holds no token.

    :param resource: name of the resource.
    :param location: the model that was put live.
    :param level: the level of proof to reach.
    :param replaced: the model that was live before, if the service named it.
    :param answers: that model's answers to the golden rows of the new one, if it was asked.
    :param version: the endpoint's, before the PATCH.
    :param etag: likewise.
    :param patched_at: seconds since 1970.
    :param deadline: seconds since 1970 until which the proof is waited for.
    :param failed: the proof did not come in time.
    :param window_end: of the model that was put live, ISO 8601, if known.
    :param model: digests of the model that was put live, if known.
    :param replaced_model: digests of the model that was live before, if the service told them.
    :param replaced_end: end of that model's training window, ISO 8601, if known.
    :param rehearsal: what its rehearsal found, see :class:`~.rehearsing.Outcome`; ``None``: there was none.
    """

    resource: str
    location: BlobReference
    level: Level = Level.RESOURCE
    replaced: BlobReference | None = None
    answers: Table | None = None
    version: str | None = None
    etag: str | None = None
    patched_at: float = 0.0
    deadline: float = 0.0
    failed: bool = False
    window_end: str | None = None
    model: Digests | None = None
    replaced_model: Digests | None = None
    replaced_end: str | None = None
    rehearsal: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """For the task state store and the triggerer."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "level": self.level.value,
            "location": _reference_to_json(self.location),
            "replaced": _reference_to_json(self.replaced) if self.replaced else None,
            "answers": self.answers.to_wire() if self.answers else None,
            "window_end": self.window_end,
            "model": self.model.to_json() if self.model else None,
            "replaced_model": self.replaced_model.to_json() if self.replaced_model else None,
            "replaced_end": self.replaced_end,
            "rehearsal": self.rehearsal,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Patch:
        """The value that :meth:`to_json` wrote.

        :param data: from the task state store, or from an event.
        :raises ValueError: it is something else.
        """
        check_members(data, _KINDS)
        try:
            return cls(
                **{name: data[name] for name in _PLAIN},
                level=Level(data["level"]),
                location=_reference_from_json(data["location"]),
                replaced=_reference_from_json(data["replaced"]) if data["replaced"] else None,
                answers=Table.from_wire(data["answers"]) if data["answers"] else None,
                # Absent in what version 0.1 kept:
                window_end=data.get("window_end"),
                model=Digests.from_json(data.get("model")),
                replaced_model=Digests.from_json(data.get("replaced_model")),
                replaced_end=data.get("replaced_end"),
                rehearsal=data.get("rehearsal"),
            )
        except (KeyError, TypeError, AttributeError, AzureMLClassicError):
            raise ValueError(f"The state of the update cannot be read: its members are {sorted(data)}.") from None

    def missing(self, after: Endpoint) -> str | None:
        """What the endpoint's description does not show yet, as the end of a sentence; ``None`` if it shows everything.

        :param after: as read after the PATCH.
        """
        if not shows(after, self.resource, self.location):
            live = after.resource(self.resource).location
            return f"it still names {live.location if live else 'no location'} as its model."
        if self.level is Level.CONTENT and not same_model(self.model, after.resource(self.resource).digests):
            return f"another model is live from {self.location.location} than the one that was meant."
        must_move = self.level is Level.VERSION or (self.level.is_scored and self.etag is not None)
        return f"its version is still {after.version}." if must_move and not self.has_moved(after) else None

    def has_moved(self, after: Endpoint) -> bool:
        """Whether the endpoint's version or ``ETag`` has changed.

        :param after: as read after the PATCH.
        """
        return (after.version, after.etag) != (self.version, self.etag)

    def has_window(self, after: Endpoint) -> bool:
        """Whether the endpoint names no other training window than this model's: somebody else may have put the very
        same file live as that of a newer one.

        :param after: as read after the PATCH.
        """
        end = after.resource(self.resource).window_end
        return end is None or self.window_end is None or end == to_utc(self.window_end)


_PLAIN = ("resource", "version", "etag", "patched_at", "deadline", "failed")
_KINDS = {
    **dict.fromkeys(("resource", "level"), str),
    **dict.fromkeys(("version", "etag", "window_end", "replaced_end"), str | None),
    **dict.fromkeys(("patched_at", "deadline"), int | float),
    "failed": bool | None,
    "rehearsal": dict | None,
}


def _reference_to_json(reference: BlobReference) -> list[str]:
    return [reference.base_location, reference.address_path]


def _reference_from_json(parts: Sequence[str]) -> BlobReference:
    base, relative = parts
    return BlobReference.at(base, relative)
