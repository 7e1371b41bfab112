"""What a training CSV must contain, and how its cells become the one matrix that models are trained on.

Which columns there are and whether each holds numbers or text is inferred once, from the first training data, and
enforced from then on. Categories, ranges and classes are learnt anew at each training: they belong to the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.table_files import parse_number
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION, Experiment
from airflow_provider_azureml_classic.server.experiments.tables import Cells, Frame, first_row

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

NUMBER = "number"
STRING = "string"

#: Code of a text that is missing or was not among the training data.
UNKNOWN = -1.0

_CATEGORY_LIMIT = 10_000


@dataclass(frozen=True)
class Column:
    """One feature.

    :param name: name of the column.
    :param kind: ``number`` or ``string``.
    :param categories: the texts of a ``string`` column, sorted; a text is encoded as its position.
    :param minimum: smallest number of the training data.
    :param maximum: largest number of the training data.
    :param offset: what is subtracted from a number, in 64 bits, before it is encoded in 32; see :mod:`~.precision`.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    offset: float = 0.0


@dataclass(frozen=True)
class Schema:
    """The columns of an experiment.

    :param features: in the order of the encoded matrix.
    :param label: the column to predict.
    :param task: ``classification`` or ``regression``.
    :param classes: labels of a classification, sorted; empty until :meth:`learnt`.
    :param optional: names of features that may be absent.
    :param missing: cells that mean "no value".
    :param offset: what is subtracted from the numbers of the label before a model is fitted, and added to its answers.
    """

    features: tuple[Column, ...]
    label: str
    task: str
    classes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    offset: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(column.name for column in self.features)

    @property
    def required(self) -> tuple[str, ...]:
        """Names of the features that may not be absent."""
        return tuple(name for name in self.names if name not in self.optional)

    @property
    def offsets(self) -> tuple[float, ...]:
        """What is subtracted from the columns of the encoded matrix; empty where all are zero."""
        offsets = tuple(column.offset for column in self.features)
        return offsets if any(offsets) else ()

    def shifted(self, offsets: Mapping[str, float], label: float = 0.0) -> Schema:
        """This schema with these offsets, and no others.

        :param offsets: by column; columns that are not named have none.
        :param label: of the label.
        """
        features = tuple(replace(column, offset=offsets.get(column.name, 0.0)) for column in self.features)
        return replace(self, features=features, offset=label)

    def to_json(self) -> dict[str, Any]:
        """The schema as a JSON object, without members that say nothing and that the first version did not have."""
        features = [_without_defaults(column, _FIRST_OF_COLUMN) for column in self.features]
        return {**_without_defaults(replace(self, features=()), _FIRST_OF_SCHEMA), "features": features}

    @property
    def is_of_first_version(self) -> bool:
        """Whether the first version of this package can read, and use, what :meth:`to_json` says."""
        value = self.to_json()
        return (
            set(value) <= _FIRST_OF_SCHEMA
            and all(set(item) <= _FIRST_OF_COLUMN for item in value["features"])
            and all(column.kind in (NUMBER, STRING) for column in self.features)
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Schema:
        """The schema that :meth:`to_json` wrote, also that of a later version: unknown members are passed over.

        :param value: a JSON object.
        :raises (KeyError, TypeError): it is none.
        """
        features = tuple(_column(item) for item in value["features"])
        lists = {key: tuple(value[key]) for key in ("classes", "optional", "missing")}
        return cls(features, value["label"], value["task"], **lists, offset=float(value.get("offset", 0.0)))

    def learnt(self, frame: Frame) -> Schema:
        """This schema with the categories, ranges and classes of ``frame``.

        :param frame: training data.
        :raises RequestRejected: a column is absent, a number column holds a text, a label is missing, or there is
            only one class.
        """
        self._check_columns(frame)
        features = tuple(self._learn(column, frame) for column in self.features)
        labels = self._label_cells(frame)
        if self.task != CLASSIFICATION:
            return replace(self, features=features)
        classes = _sorted_labels(set(labels.distinct) - set(self.missing))
        if len(classes) == 1:
            raise rejection(
                "InputMismatchError",
                f"The label {self.label!r} is {classes[0]!r} in all {frame.rows} rows; "
                "expected at least two different labels.",
                target=self.label,
            )
        return replace(self, features=features, classes=classes)

    def check_evaluation(self, frame: Frame) -> None:
        """Refuse rows that a model of this schema cannot be measured on.

        :param frame: rows with their labels.
        :raises RequestRejected: a column is absent, or a label is missing or was not among the training data.
        """
        self._check_columns(frame)
        labels = self._label_cells(frame)
        unknown = [label for label in labels.distinct if self.classes and label not in self.classes]
        if unknown:
            raise rejection(
                "InputMismatchError",
                f"The rows for the evaluation have the label {unknown[0]!r}, which no row of the training data has; "
                f"those are: {', '.join(self.classes[:20])}.",
                target=self.label,
            )

    def _check_columns(self, frame: Frame) -> None:
        there = ", ".join(frame.columns)
        if self.label not in frame.columns:
            raise rejection(
                "InputMismatchError",
                f"The training data has no column {self.label!r}, the label; its columns are: {there}.",
                target=self.label,
            )
        for name in self.required:
            if name not in frame.columns:
                raise rejection(
                    "InputMismatchError",
                    f"The training data has no column {name!r}; expected {', '.join(self.required)}. Found: {there}.",
                    target=name,
                )

    def _learn(self, column: Column, frame: Frame) -> Column:
        import numpy as np

        if column.name not in frame.columns:
            return Column(column.name, column.kind)
        if column.kind == NUMBER:
            values = self.numbers(frame, column.name)
            known = values[~np.isnan(values)]
            return replace(column, minimum=float(known.min()), maximum=float(known.max())) if len(known) else column
        categories = sorted(set(frame.columns[column.name].distinct) - set(self.missing))
        if len(categories) > _CATEGORY_LIMIT:
            raise rejection(
                "InputMismatchError",
                f"Column {column.name!r} has {len(categories)} different texts, more than {_CATEGORY_LIMIT}: it looks "
                "like an identifier. Name it in 'ignore' of the experiment.",
                target=column.name,
            )
        return replace(column, categories=tuple(categories))

    def _label_cells(self, frame: Frame) -> Cells:
        cells = frame.columns[self.label]
        absent = cells.where(self.is_missing)
        if absent.any():
            raise rejection(
                "InputParseError",
                f"The label {self.label!r} is missing in {int(absent.sum())} of {frame.rows} rows, "
                f"first in data row {first_row(absent)}.",
                target=self.label,
            )
        return cells

    def is_missing(self, cell: str) -> bool:
        """Whether ``cell`` means "no value".

        :param cell: one cell, without blanks around it.
        """
        return cell in self.missing

    def numbers(self, frame: Frame, name: str) -> NDArray[float64]:
        """The numbers of one column; missing ones are NaN.

        :param frame: training data.
        :param name: the column.
        :raises RequestRejected: a cell is no number; the message names column, row and cell.
        """
        cells = frame.columns[name]

        def value(cell: str) -> float:
            return math.nan if cell in self.missing else _or_infinity(frame.number(cell))

        values = cells.each(value)
        wrong = abs(values) > _LARGEST
        if wrong.any():
            row = first_row(wrong)
            raise not_a_number(name, row, cells.distinct[cells.codes[row - 1]])
        return values


#: Members that the first version wrote and requires; it refuses all others.
_FIRST_OF_COLUMN = frozenset({"name", "kind", "categories", "minimum", "maximum"})
_FIRST_OF_SCHEMA = frozenset({"features", "label", "task", "classes", "optional", "missing"})


def _without_defaults(part: Column | Schema, always: frozenset[str]) -> dict[str, Any]:
    defaults = {one.name: one.default for one in fields(part) if one.name not in always}
    return {name: value for name, value in asdict(part).items() if name in always or value != defaults[name]}


def _column(item: Mapping[str, Any]) -> Column:
    known = {one.name: item[one.name] for one in fields(Column) if one.name in item}
    return Column(**{**known, "categories": tuple(item["categories"])})


#: Largest number of the encoded matrix (32-bit floating point).
_LARGEST = 3.4e38


def _or_infinity(value: float | None) -> float:
    return math.inf if value is None else value


def not_a_number(name: str, row: int, cell: object) -> AzureMLClassicError:
    """The error for a cell of a number column that is no number.

    :param name: the column.
    :param row: the row, counted from 1.
    :param cell: what was found.
    """
    shown = repr(cell)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return rejection(
        "InputParseError", f"Column {name!r}, row {row}: {shown} is not a number (or too large).", target=name
    )


def _sorted_labels(labels: set[str]) -> tuple[str, ...]:
    numbers = {label: parse_number(label) for label in labels}
    if None in numbers.values():
        return tuple(sorted(labels))
    return tuple(sorted(labels, key=lambda label: (numbers[label] or 0.0, label)))


def columns_of(experiment: Experiment, there: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the features, in order.

    :param experiment: the declaration.
    :param there: the columns of the first training data.
    """
    aside = {experiment.label, experiment.time_column, *experiment.ignore}
    declared = experiment.features or tuple(name for name in there if name not in aside)
    return tuple(dict.fromkeys((*declared, *experiment.optional)))


def infer(experiment: Experiment, frame: Frame, task: str) -> Schema:
    """The schema that the first training data implies: a column without any text holds numbers.

    :param experiment: the declaration.
    :param frame: the first training data.
    :param task: ``classification`` or ``regression``.
    """

    def kind(name: str) -> str:
        cells = set(frame.columns[name].distinct if name in frame.columns else ()) - set(experiment.missing)
        return NUMBER if cells and all(frame.number(cell) is not None for cell in cells) else STRING

    features = tuple(Column(name, kind(name)) for name in columns_of(experiment, tuple(frame.columns)))
    if not features:
        raise rejection("InputMismatchError", f"The training data has no column but the label {experiment.label!r}.")
    return Schema(features, experiment.label, task, (), experiment.optional, experiment.missing)


def encode(schema: Schema, frame: Frame, *, wide: bool = False) -> NDArray[Any]:
    """One column for each feature: numbers less the column's offset (NaN: missing), texts as the position of their
    category (:data:`UNKNOWN`: missing or unknown).

    :param schema: a learnt schema.
    :param frame: training data that was checked by :meth:`Schema.learnt`.
    :param wide: in 64 bits; else in the 32 bits in which a trained model is asked.
    """
    import numpy as np

    matrix = np.full((frame.rows, len(schema.features)), np.nan, np.float64 if wide else np.float32)
    for position, column in enumerate(schema.features):
        codes = {category: float(code) for code, category in enumerate(column.categories)}
        if column.kind == NUMBER and column.name in frame.columns:
            matrix[:, position] = schema.numbers(frame, column.name) - column.offset
        elif column.kind == STRING and column.name in frame.columns:
            matrix[:, position] = frame.columns[column.name].each(partial(_code, codes))
        elif column.kind == STRING:
            matrix[:, position] = UNKNOWN
    return matrix


def _code(codes: dict[str, float], cell: str) -> float:
    return codes.get(cell, UNKNOWN)


def encode_label(schema: Schema, frame: Frame) -> NDArray[float64] | NDArray[int64]:
    """What is to be predicted: numbers less the label's offset, or positions in ``schema.classes``.

    :param schema: a learnt schema.
    :param frame: training data that was checked by :meth:`Schema.learnt`.
    """
    if schema.task != CLASSIFICATION:
        return schema.numbers(frame, schema.label) - schema.offset
    import numpy as np

    return frame.columns[schema.label].each(schema.classes.index).astype(np.int64)
