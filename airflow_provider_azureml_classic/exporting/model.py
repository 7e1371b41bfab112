"""A model that is to be exported: its columns and classes, and the graph that answers to encoded rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_azureml_classic.protocol import model_file
from airflow_provider_azureml_classic.tables.kinds import BOOLEAN, DATE, NUMBER, TEXT, Kind

#: Columns of an answer.
LABELS, PROBABILITIES = "Scored Labels", "Scored Probabilities"


@dataclass(frozen=True)
class Column:
    """One column that the model takes.

    :param name: of the column.
    :param kind: how its cells are read.
    :param categories: texts that the model knows, in the order of their codes; empty for numbers and dates.
    :param offset: what is subtracted, in 64 bits, from a number before it is encoded in 32.
    :param minimum: smallest number of the training data, if that is known; days since 1970 for dates.
    :param maximum: largest one.
    :param optional: whether a call may leave it out.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    offset: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    optional: bool = False

    @property
    def is_text(self) -> bool:
        """Whether it is encoded as the position of a category."""
        return self.kind.kind in (TEXT, BOOLEAN)

    @property
    def takes_numbers(self) -> bool:
        """Whether an exported model takes numbers in it, and not texts."""
        return not self.is_text and self.kind.kind != DATE


@dataclass(frozen=True)
class Model:
    """What a model file says of its model, as far as others need it.

    :param experiment: that trained it.
    :param columns: in the order of the encoded row.
    :param label: name of the column that it predicts.
    :param classes: labels in the order of their codes; empty for a regression.
    :param offset: what is added to the answers of a regression.
    :param positive: the class that *Scored Probabilities* is about, of two.
    :param probabilities: whether it gives any.
    :param missing: texts that mean "no value" in all columns.
    :param metrics: of its evaluation.
    :param rows: that it was trained on.
    :param window: first and last time of the training data, if it is dated.
    :param created: when it was trained, ISO 8601.
    :param graph: ONNX.
    :param sha256: of the model file.
    """

    experiment: str
    columns: tuple[Column, ...]
    label: str
    graph: bytes = field(repr=False)
    sha256: str
    classes: tuple[str, ...] = ()
    offset: float = 0.0
    positive: str | None = None
    probabilities: bool = False
    missing: tuple[str, ...] = ()
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    rows: int = 0
    window: tuple[str, str] | None = None
    created: str = ""

    @classmethod
    def read(cls, content: bytes) -> Model:
        """The model in a file.

        :param content: of an ``.ilearner`` file.
        :raises RequestRejected: ``ModelInvalid``: it is none.
        """
        opened = model_file.open_model(content)
        try:
            return cls._of(opened, hashlib.sha256(content).hexdigest())
        except model_file.UNREADABLE as error:
            raise model_file.unreadable(error) from None

    @classmethod
    def _of(cls, opened: model_file.ModelFile, sha256: str) -> Model:
        manifest, schema = opened.manifest, opened.manifest["schema"]
        window = manifest.get("window")
        return cls(
            experiment=str(manifest["experiment"]),
            columns=tuple(_column(item, schema) for item in schema["features"]),
            label=str(schema["label"]),
            graph=opened.graph,
            sha256=sha256,
            classes=tuple(schema["classes"]),
            offset=float(schema.get("offset", 0.0)),
            positive=manifest.get("positive"),
            probabilities=bool(manifest.get("probabilities")),
            missing=tuple(schema["missing"]),
            metrics=dict(manifest["metrics"]),
            rows=int(manifest["rows"]),
            window=(window[0], window[1]) if window else None,
            created=str(manifest["created"]),
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """Names of the columns of an answer: those of the endpoint."""
        names = [LABELS]
        if self.classes and self.probabilities:
            names += [PROBABILITIES] * (len(self.classes) == 2)
            names += [f'{PROBABILITIES} for Class "{label}"' for label in self.classes]
        return tuple(names)

    def missing_texts(self, column: Column) -> frozenset[str]:
        """Texts that mean "no value" in a column.

        :param column: of this model.
        """
        return column.kind.missing_texts(self.missing)


def _column(item: Mapping[str, Any], schema: Mapping[str, Any]) -> Column:
    name, kinds = str(item["name"]), schema.get("kinds", {})
    implied = Kind(NUMBER if item["kind"] == "number" else TEXT)
    return Column(
        name=name,
        kind=Kind.from_json(kinds[name]) if name in kinds else implied,
        categories=_texts(item["categories"]),
        offset=float(item.get("offset", 0.0)),
        minimum=item.get("minimum"),
        maximum=item.get("maximum"),
        optional=name in schema.get("optional", ()),
    )


def _texts(items: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(str, items))
