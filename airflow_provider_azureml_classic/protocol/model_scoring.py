"""Scoring rows with a model that is on no endpoint: our addition to the protocol.

The model is named by the digest of its file, where the endpoint has had it, or by its location, or by both: then it is
that very file. The rows are sent; or they are those that were held out when the endpoint's live model was trained,
which stay on the server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_azureml_classic.exceptions import ProtocolError, rejection
from airflow_provider_azureml_classic.protocol.digests import DIGESTS, Digests
from airflow_provider_azureml_classic.protocol.errors import known_members, reading_answer
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table, read_input

#: Rows of one call.
MOST_ROWS = 10_000
_LOCATION, _ROWS, _HELD_OUT = "Location", "Rows", "HeldOut"
_ANSWERS, _LABELS, _LIVE, _LIVE_DIGESTS, _LEFT_OUT = "Answers", "Labels", "Live", "LiveDigests", "LeftOut"
_ASKED, _UNLIKE = "Asked", "Unlike"
_CALL = frozenset({_LOCATION, DIGESTS, _ROWS, _HELD_OUT})


@dataclass(frozen=True)
class ModelCall:
    """What a model is asked.

    :param location: of the model's file.
    :param file: SHA-256 of the file that is meant.
    :param rows: to score; ``None``: those that were held out when the endpoint's live model was trained.
    """

    location: BlobReference | None
    file: str | None
    rows: Table | None = None

    @classmethod
    def from_wire(cls, data: Any) -> ModelCall:
        """The call that a client sent.

        :param data: decoded JSON.
        :raises RequestRejected: naming the member at fault.
        """
        if not isinstance(data, Mapping):
            raise rejection("RequestBodyInvalid", f"The body must be a JSON object with {_LOCATION} or {DIGESTS}.")
        data = known_members("The body", data, _CALL)
        location, digests = data.get(_LOCATION), Digests.from_wire(data.get(DIGESTS))
        file = digests.file if digests else None
        if location is None and file is None:
            raise rejection(
                "MissingInputBlobInformation",
                f"The body names no model: give its {_LOCATION}, or {DIGESTS} with the SHA-256 of its File, or both.",
            )
        if (data.get(_ROWS) is None) == (data.get(_HELD_OUT) is not True):
            raise rejection("RequestBodyInvalid", f"The body must have either {_ROWS}, a table, or {_HELD_OUT}: true.")
        rows = None if data.get(_ROWS) is None else read_input(_ROWS, data[_ROWS])
        if rows is not None and len(rows.values) > MOST_ROWS:
            raise rejection(
                "InputParseError", f"{len(rows.values):,} rows are too many for one call: send at most {MOST_ROWS:,}."
            )
        reference = None if location is None else BlobReference.from_wire(location, what=_LOCATION, strict=True)
        return cls(reference, file, rows)

    def to_wire(self) -> dict[str, Any]:
        """A request's body."""
        members: dict[str, Any] = {_HELD_OUT: True} if self.rows is None else {_ROWS: self.rows.to_wire()}
        if self.location is not None:
            members[_LOCATION] = self.location.to_wire()
        if self.file is not None:
            members[DIGESTS] = Digests(self.file).to_wire()
        return members


@dataclass(frozen=True)
class HeldOutRows:
    """What is told of the rows that were held out when the live model was trained.

    :param labels: the true ones, of all of them.
    :param live: answers of the model that was fitted without these rows, as the live one's metrics are.
    :param asked: positions of the rows that the other model was asked for.
    :param model: digests of the live model.
    :param left_out: how many were left out, as their time lies in the data of the model that is asked; ``None``: it is
        not known which of them that model was trained on as well.
    :param unlike: how many were left out as the model that is asked was trained on no values such as theirs.
    """

    labels: Sequence[Any]
    live: Table
    asked: Sequence[int]
    model: Digests | None
    left_out: int | None
    unlike: int = 0

    def notes(self) -> list[str]:
        """What a reader of the figures should know, a sentence each."""
        rows = "Of the rows that were held out of the live model's training,"
        if self.left_out is None:
            notes = [f"{rows} it is not known which the new model was trained on as well: the data have no time."]
        else:
            notes = (
                [f"{rows} {self.left_out} lie in the new model's window and were left out."] if self.left_out else []
            )
        if self.unlike:
            notes.append(f"{rows} {self.unlike} have values that the new training data do not have, and were left out.")
        return notes


@dataclass(frozen=True)
class ModelAnswers:
    """What a model answered.

    :param answers: a row for each.
    :param model: its digests.
    :param held_out: what is told of the rows, where they were those of the live model; ``None`` with such a call: the
        server keeps none.
    """

    answers: Table
    model: Digests | None
    held_out: HeldOutRows | None = None

    @classmethod
    @reading_answer("The answer of the model")
    def from_wire(cls, data: Any) -> ModelAnswers:
        """What a server answered.

        :param data: decoded JSON.
        :raises ProtocolError: another form.
        """
        if not isinstance(data, Mapping):
            raise ProtocolError("The answer of the model is no object.")
        answers, held = read_input(_ANSWERS, data.get(_ANSWERS)), data.get(_HELD_OUT)
        return cls(answers, Digests.from_wire(data.get(DIGESTS)), None if held is None else _held_out(held, answers))

    def to_wire(self) -> dict[str, Any]:
        """All members."""
        held = self.held_out
        told = held and {
            _LABELS: list(held.labels),
            _LIVE: held.live.to_wire(),
            _ASKED: list(held.asked),
            _LIVE_DIGESTS: held.model.to_wire() if held.model else None,
            _LEFT_OUT: held.left_out,
            _UNLIKE: held.unlike,
        }
        digests = self.model.to_wire() if self.model else None
        return {_ANSWERS: self.answers.to_wire(), DIGESTS: digests, _HELD_OUT: told}


def _held_out(data: Any, answers: Table) -> HeldOutRows:
    labels, asked = (data.get(name) if isinstance(data, Mapping) else None for name in (_LABELS, _ASKED))
    if not isinstance(labels, list) or not isinstance(asked, list):
        raise _unfit()
    live = read_input(_LIVE, data.get(_LIVE))
    if (
        len(labels) != len(live.values)
        or len(asked) != len(answers.values)
        or not all(type(row) is int and 0 <= row < len(labels) for row in asked)
    ):
        raise _unfit()
    counts = [data.get(name) for name in (_LEFT_OUT, _UNLIKE)]
    left_out, unlike = (count if isinstance(count, int) else None for count in counts)
    return HeldOutRows(labels, live, asked, Digests.from_wire(data.get(_LIVE_DIGESTS)), left_out, unlike or 0)


def _unfit() -> ProtocolError:
    return ProtocolError(f"The answer of the model has a member {_HELD_OUT} that does not fit its answers.")
