"""What a training CSV must contain, and how its cells become the one matrix that models are trained on.

Which columns there are and whether each holds numbers or text is inferred once, from the first training data, and
enforced from then on. Categories, ranges and classes are learnt anew at each training: they belong to the model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION, Experiment
from airflow_provider_azureml_classic.server.experiments.flyweight import shared
from airflow_provider_azureml_classic.server.experiments.frame import Frame
from airflow_provider_azureml_classic.tables.kinds import (
    BOOLEAN,
    DATE,
    IGNORE,
    TEXT,
    UNDECIDED,
    Decision,
    Kind,
    decide,
    read_categories,
    read_numbers,
)
from airflow_provider_azureml_classic.tables.names import hint
from airflow_provider_azureml_classic.tables.spelling import category_key, listed, parse_number, shown, truth_key
from airflow_provider_azureml_classic.tables.table import Encoded, Table
from airflow_provider_azureml_classic.tables.thousands import check_thousands
from airflow_provider_azureml_classic.tables.values import recoded

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
    :param kinds: of columns that are read in another way than any number or text, by name; also of the label, and of
        the column of the time.
    """

    features: tuple[Column, ...]
    label: str
    task: str
    classes: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    offset: float = 0.0
    kinds: Mapping[str, Kind] = field(default_factory=dict)

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

    def kind_of(self, name: str) -> Kind:
        """How the cells of a column are read.

        :param name: of a feature, the label or another column of the data.
        """
        if name in self.kinds:
            return self.kinds[name]
        if name == self.label:
            return Kind(TEXT if self.task == CLASSIFICATION else NUMBER)
        return _IMPLIED.get(self._stored_kinds.get(name, ""), Kind())

    @cached_property
    def _stored_kinds(self) -> dict[str, str]:
        return {column.name: column.kind for column in self.features}

    @property
    def decided(self) -> dict[str, Kind]:
        """The kinds that later data must keep to. A text column without any text had no value so far."""
        known = [column.name for column in self.features if column.kind == NUMBER or column.categories]
        return {name: self.kind_of(name) for name in (*known, self.label)} | dict(self.kinds)

    def key(self, name: str, cell: object) -> str:
        """What cells of a column that are one category have in common.

        :param name: of the column.
        :param cell: of a file or a call.
        """
        return truth_key(cell) if self.kind_of(name).kind == BOOLEAN else category_key(cell)

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
        kinds = {"kinds": {name: kind.to_json() for name, kind in self.kinds.items()}} if self.kinds else {}
        value = _without_defaults(replace(self, features=(), kinds={}), _FIRST_OF_SCHEMA)
        del value["kinds"]
        return {**value, "features": features, **kinds}

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
        kinds = {name: Kind.from_json(item) for name, item in value.get("kinds", {}).items()}
        offset = float(value.get("offset", 0.0))
        return cls(features, value["label"], value["task"], **lists, offset=offset, kinds=kinds)

    def learnt(self, frame: Frame) -> Schema:
        """This schema with the categories, ranges and classes of ``frame``.

        :param frame: training data.
        :raises RequestRejected: a column is absent, a number column holds a text, a label is missing, or there is
            only one class.
        """
        self.check_columns(frame.table)
        features = tuple(self._learn(column, frame) for column in self.features)
        self._check_labels(frame)
        if self.task != CLASSIFICATION:
            return replace(self, features=features)
        classes = _sorted_labels(set(self.texts(frame, self.label, self.classes).cells))
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
        self.check_columns(frame.table)
        self._check_labels(frame)
        labels = self.texts(frame, self.label, self.classes).cells if self.classes else ()
        unknown = [label for label in labels if label not in self.classes]
        if unknown:
            raise rejection(
                "InputMismatchError",
                f"The rows for the evaluation have the label {unknown[0]!r}, which no row of the training data has; "
                f"those are: {', '.join(self.classes[:20])}.",
                target=self.label,
            )

    def check_thousands(self, table: Table, decimal: str) -> tuple[str, ...]:
        """Refuse later data whose numbers are 1000 times those that they write, see :mod:`~.tables.thousands`.

        :param table: rows of a file.
        :param decimal: the sign before its decimals.
        :return: what is to be noted of columns that may be meant so.
        :raises RequestRejected: naming column, row and cell.
        """
        ends = {column.name: (column.minimum, column.maximum) for column in self.features if column.kind == NUMBER}
        if self.task != CLASSIFICATION:
            ends[self.label] = None, None
        kinds = {name: self.kind_of(name) for name in ends if name in table.columns}
        names = (name for name, kind in kinds.items() if kind.kind != DATE and not kind.decimal)
        return tuple(filter(None, (check_thousands(table, name, decimal, ends[name]) for name in names)))

    def check_columns(self, frame: Table) -> None:
        """Refuse data in which a column is absent.

        :param frame: the data.
        :raises RequestRejected: naming the column.
        """
        there = listed(frame.origin.names)
        if self.label not in frame.columns:
            raise rejection(
                "InputMismatchError",
                f"The training data has no column {self.label!r}, the label; its columns are: {there}."
                f"{hint(self.label, frame.origin.names, self.required)}",
                target=self.label,
            )
        for name in self.required:
            if name not in frame.columns:
                raise rejection(
                    "InputMismatchError",
                    f"The training data has no column {name!r}; expected {', '.join(self.required)}. Found: {there}."
                    f"{hint(name, frame.origin.names, (*self.required, self.label))}",
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
        categories = sorted(set(self.texts(frame, column.name, column.categories).cells))
        if len(categories) > _CATEGORY_LIMIT:
            raise rejection(
                "InputMismatchError",
                f"Column {column.name!r} has {len(categories)} different texts, more than {_CATEGORY_LIMIT}: it looks "
                "like an identifier. Name it in 'ignore' of the experiment.",
                target=column.name,
            )
        return replace(column, categories=tuple(categories))

    def _check_labels(self, frame: Frame) -> None:
        import numpy as np

        if self.task == CLASSIFICATION:
            absent = self.texts(frame, self.label).codes < 0
        else:
            absent = np.isnan(self.numbers(frame, self.label))
        if absent.any():
            raise rejection(
                "InputParseError",
                f"The label {self.label!r} is missing in {int(absent.sum())} of {frame.rows} rows, "
                f"first in data row {int(absent.argmax()) + 1}.",
                target=self.label,
            )

    def texts(self, frame: Frame, name: str, known: tuple[str, ...] = ()) -> Encoded:
        """The categories of one column, and the code of each row's.

        :param frame: training data.
        :param name: the column.
        :param known: categories in whose spelling they stay.
        """
        return read_categories(frame.table, name, self.kind_of(name), known, self.missing)

    def numbers(self, frame: Frame, name: str) -> NDArray[float64]:
        """The numbers of one column, days since 1970 for dates; missing ones are NaN.

        :param frame: training data.
        :param name: the column.
        :raises RequestRejected: a cell is no number; the message names column, row and cell.
        """
        values = read_numbers(frame.table, name, self.kind_of(name), frame.decimal, self.missing)
        wrong = abs(values) > _LARGEST
        if wrong.any():
            row = int(wrong.argmax())
            raise not_a_number(name, row + 1, frame.table.cell(name, row))
        return values


_IMPLIED = {NUMBER: Kind(NUMBER), STRING: Kind(TEXT)}

#: Members that the first version wrote and requires; it refuses all others.
_FIRST_OF_COLUMN = frozenset({"name", "kind", "categories", "minimum", "maximum"})
_FIRST_OF_SCHEMA = frozenset({"features", "label", "task", "classes", "optional", "missing"})


def _without_defaults(part: Column | Schema, always: frozenset[str]) -> dict[str, Any]:
    defaults = {one.name: one.default for one in fields(part) if one.name not in always}
    return {name: value for name, value in asdict(part).items() if name in always or value != defaults[name]}


def _column(item: Mapping[str, Any]) -> Column:
    known = {one.name: item[one.name] for one in fields(Column) if one.name in item}
    names = {key: sys.intern(known[key]) for key in ("name", "kind")}
    column = Column(**{**known, **names, "categories": tuple(item["categories"])})
    # Equal numbers may be of two types, which a file keeps: columns of texts have none.
    return shared(column) if column.categories and column.minimum is None and not column.offset else column


#: Largest number of the encoded matrix (32-bit floating point).
_LARGEST = 3.4e38


def not_a_number(name: str, row: int, cell: object) -> AzureMLClassicError:
    """The error for a cell of a number column that is no number.

    :param name: the column.
    :param row: the row, counted from 1.
    :param cell: what was found.
    """
    return rejection(
        "InputParseError", f"Column {name!r}, row {row}: {shown(cell)} is not a number (or too large).", target=name
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
    ignored = (name for name, kind in experiment.columns.items() if kind.kind == IGNORE)
    aside = {experiment.label, experiment.time_column, *experiment.ignore, *ignored}
    declared = experiment.features or tuple(name for name in there if name not in aside)
    return tuple(dict.fromkeys((*declared, *experiment.optional)))


def decided(experiment: Experiment, table: Table, task: str, earlier: Schema | None) -> tuple[Schema, Decision]:
    """The schema whose columns have the kinds that a table implies; what was decided earlier stays.

    :param experiment: the declaration.
    :param table: training data.
    :param task: ``classification`` or ``regression``.
    :param earlier: of the first training; ``None``: this is the first data.
    :raises RequestRejected: there is no feature.
    """
    names = earlier.names if earlier else columns_of(experiment, table.names)
    if not names:
        raise rejection("InputMismatchError", f"The training data has no column but the label {experiment.label!r}.")
    schema = earlier or Schema((), experiment.label, task, (), experiment.optional, experiment.missing)
    declared = dict(experiment.columns)
    declared[schema.label] = _fixed(declared, schema.label, schema.kind_of(schema.label).kind)
    every = [*names, schema.label]
    if experiment.time_column is not None:
        every.append(experiment.time_column)
        declared[experiment.time_column] = _fixed(declared, experiment.time_column, DATE)
    decision = decide(
        table,
        dict.fromkeys(every),
        declared=declared,
        earlier=earlier.decided if earlier else None,
        missing=schema.missing,
    )
    old = {column.name: column for column in schema.features}
    features = tuple(_column_of(old.get(name), name, decision.kinds[name]) for name in names)
    bare = replace(schema, features=features, kinds={})
    kinds = {name: kind for name, kind in decision.kinds.items() if not _is_implied(kind, bare.kind_of(name))}
    return replace(bare, kinds=kinds), decision


def _fixed(declared: Mapping[str, Kind], name: str, kind: str | None) -> Kind:
    """What is declared of a column whose kind its use decides, unless the declaration does."""
    said = declared.get(name, Kind())
    return said if said.kind is not None else replace(said, kind=kind)


def _is_implied(kind: Kind, implied: Kind) -> bool:
    """Whether a schema need not say a kind: what its features have anyway, and ISO 8601 in the column of the time."""
    iso = kind in (Kind(DATE), Kind(DATE, date_format=""))
    return kind in (implied, Kind(UNDECIDED)) or (implied.kind is None and iso)


def _column_of(old: Column | None, name: str, kind: Kind) -> Column:
    stored = NUMBER if kind.kind in (NUMBER, DATE) else STRING
    return old if old is not None and old.kind == stored else Column(name, stored)


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
        if column.kind == NUMBER and column.name in frame.columns:
            matrix[:, position] = schema.numbers(frame, column.name) - column.offset
        elif column.kind == STRING and column.name in frame.columns:
            matrix[:, position] = _codes(schema.texts(frame, column.name, column.categories), column.categories)
        elif column.kind == STRING:
            matrix[:, position] = UNKNOWN
    return matrix


def _codes(column: Encoded, categories: tuple[str, ...]) -> Any:
    codes = {category: float(code) for code, category in enumerate(categories)}
    return recoded(column, lambda cell: codes.get(cell, UNKNOWN))


def encode_label(schema: Schema, frame: Frame) -> NDArray[float64] | NDArray[int64]:
    """What is to be predicted: numbers less the label's offset, or positions in ``schema.classes``.

    :param schema: a learnt schema.
    :param frame: training data that was checked by :meth:`Schema.learnt`.
    """
    if schema.task != CLASSIFICATION:
        return schema.numbers(frame, schema.label) - schema.offset
    import numpy as np

    codes: NDArray[int64] = _codes(schema.texts(frame, schema.label, schema.classes), schema.classes).astype(np.int64)
    return codes
