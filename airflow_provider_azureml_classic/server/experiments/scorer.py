"""A trained model that answers: named columns in, the columns of Studio's *Score Model* out.

The hot path of the server. Rows are encoded with plain Python while they are few, column by column when they are
many; what is unusual in a cell is left to one slow function.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.limits import MAX_CELLS
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments.declaration import CLASSIFICATION
from airflow_provider_azureml_classic.server.experiments.flyweight import shared
from airflow_provider_azureml_classic.server.experiments.graph import Graph, fits_rows
from airflow_provider_azureml_classic.server.experiments.histogram import Histogram, Unusual
from airflow_provider_azureml_classic.server.experiments.ilearner import (
    Manifest,
    content_digest,
    model_content,
    read_ilearner,
)
from airflow_provider_azureml_classic.server.experiments.number_text import texts_of
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, UNKNOWN, Column, not_a_number
from airflow_provider_azureml_classic.tables import dates
from airflow_provider_azureml_classic.tables.kinds import DATE, Kind
from airflow_provider_azureml_classic.tables.names import hint
from airflow_provider_azureml_classic.tables.spelling import shown

if TYPE_CHECKING:
    from numpy import float32, float64
    from numpy.typing import NDArray

LABELS = "Scored Labels"
PROBABILITIES = "Scored Probabilities"

#: From this many rows on it pays to encode column by column.
MANY = 16
_PLANS = 64
_WIDEST_AT_ONCE = 5_000
#: Bytes of a loaded model and of each of its columns, apart from what answers; measured with it.
_SIZE, _SIZE_OF_COLUMN = 6_000, 2_000
_LARGEST = 3.4e38
_NUMBERS = frozenset({float, int})
_STRINGS = frozenset({str})
_NAN = float("nan")

#: For each feature: its position among the columns that were sent (``None``: absent), and its codes (``None``: number).
_Plan = list[tuple[int | None, "dict[str | None, float] | None"]]


@dataclass(frozen=True)
class Columns:
    """Names and types (``Double``, ``String``) of a scoring service's columns, for its documents.

    :param inputs: what to send.
    :param outputs: what comes back, passed-through columns not included.
    """

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


class Scorer:
    """One loaded model. Safe to be used by several threads at once.

    :param manifest: what the model file says.
    :param graph: its ONNX graph.
    :param digest: SHA-256 of the model file.
    :param reread: see :class:`~.graph.Graph`, which raises what a model raises that cannot be used.
    :ivar names: names of the columns of an answer.
    :ivar types: their types.
    """

    def __init__(
        self, manifest: Manifest, graph: bytes, digest: str, reread: Callable[[], bytes] | None = None
    ) -> None:
        # Of many loaded models the profiles would be as much as the trees.
        self._profile = zlib.compress(json.dumps(manifest.profile).encode(), 1)
        self.manifest = replace(manifest, profile=None)
        self.digest = digest
        #: Digest of what it answers with.
        self.content = content_digest(manifest, graph)
        schema = manifest.schema
        self._kinds = [schema.kind_of(column.name) for column in schema.features]
        # Whatever the files had, a call has a point before its decimals.
        self._rules = [shared(replace(kind, decimal=None).rule(".", schema.missing)) for kind in self._kinds]
        self._codes = [_codes(c, k, schema.missing) for c, k in zip(schema.features, self._kinds, strict=True)]
        self._keys: dict[int, dict[str, float]] = {}
        self._offsets = _array(schema.offsets) if schema.offsets else None
        self._outputs = output_columns(manifest)
        self.names, self.types = (tuple(part) for part in zip(*self._outputs, strict=True))
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._run = Graph(self.manifest, graph, reread)
        #: Rows of one call: neither what the model takes nor what it answers is a larger table.
        widest = max(len(schema.features), len(self._outputs))
        self.most_rows = max(1, MAX_CELLS // widest)
        #: A few rows are answered so soon that others may wait meanwhile.
        self.at_once = self._run.at_once and widest <= _WIDEST_AT_ONCE
        #: Letters of names that are remembered with their plan: as many as a client sends that knows the columns.
        self._longest_names = 4 * sum(map(len, schema.names)) + 1024

    @classmethod
    def load(cls, source: Path | bytes, again: Callable[[str], Path] | None = None) -> Scorer:
        """The scorer of a model file.

        :param source: an ``.ilearner`` file, or its content.
        :param again: gives the file of a digest, which is read again for a session; ``None``: the session stays.
        :raises RequestRejected: ``ModelInvalid``: it is no model file.
        """
        content = source if isinstance(source, bytes) else model_content(source)
        manifest, graph = read_ilearner(content)
        digest = hashlib.sha256(content).hexdigest()
        return cls(manifest, graph, digest, (lambda: read_ilearner(again(digest))[1]) if again else None)

    def fits(self, rows: int) -> bool:
        """Whether its graph gives what its manifest describes, one answer for each row.

        :param rows: number of rows to try.
        """
        return fits_rows(self.manifest, self._run, rows)

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about: of what others have too, nothing is counted."""
        schema = self.manifest.schema
        return _SIZE + _SIZE_OF_COLUMN * len(schema.features) + len(self._profile) + self._run.size

    def slim(self) -> bool:
        """Take less memory, at the price of slower answers; see :meth:`.graph.Graph.slim`.

        :return: whether there is less in memory now.
        """
        self.__dict__.pop("histogram", None)
        return self._run.slim()

    @property
    def problem(self) -> str | None:
        """The rule that the graph of a model breaks which is in place from before there was one."""
        return self._run.problem

    @cached_property
    def histogram(self) -> Histogram:
        """The bins that what it is asked is counted in."""
        schema = self.manifest.schema
        manifest = replace(self.manifest, profile=json.loads(zlib.decompress(self._profile)))
        return Histogram(manifest, [frozenset(kind.missing_texts(schema.missing)) for kind in self._kinds])

    def unusual(self, matrix: NDArray[float32], table: Table) -> Unusual:
        """What of a call the model did not see in its training.

        :param matrix: its rows as the model takes them.
        :param table: the call.
        """
        counts = self.histogram.count(matrix, ((row, table.column_names) for row in table.values))
        return self.histogram.unusual(counts, len(matrix))

    def columns(self) -> Columns:
        """The columns to send and the columns of the answer."""
        names = self.manifest.schema.names
        types = ("Double" if kind.kind == NUMBER else "String" for kind in self._kinds)
        features = tuple(zip(names, types, strict=True))
        return Columns(features, self._outputs)

    def score(
        self,
        table: Table,
        passthrough: Sequence[str] = (),
        threshold: float | None = None,
        asked: Callable[[NDArray[float32]], object] | None = None,
    ) -> Table:
        """The model's answers, one row for each row of ``table``; every cell is a string.

        :param table: the features by name, in any order; further columns are ignored.
        :param passthrough: columns of ``table`` to repeat in front of the answer; ``("*",)``: all of them.
        :param threshold: least *Scored Probabilities* of a row that is labelled with the positive class.
        :param asked: told the rows as the model takes them, once they are answered.
        :raises RequestRejected: ``InputMismatchError``: a feature is absent; ``InputParseError``: a cell is no number;
            ``BadParameterValue``: a threshold for a model that gives no probabilities of two classes.
        """
        values = table.values
        # No rows need no columns: whoever asks for none learns which model answers.
        plan = self._plan(table.column_names) if values or table.column_names else []
        matrix = self._encode(plan, values) if values else None
        answers = self.answers(matrix, threshold) if matrix is not None else []
        if asked is not None and matrix is not None:
            asked(matrix)
        names, types = self.names, self.types
        if not passthrough:
            return Table(names, answers, types)
        kept = [i for i, name in enumerate(table.column_names) if name in passthrough or "*" in passthrough]
        # An input column that is named like an output would appear twice.
        kept = [i for i in kept if table.column_names[i] not in names]
        rows = [(*(_text(row[i]) for i in kept), *answer) for row, answer in zip(values, answers, strict=True)]
        columns = tuple(table.column_names[i] for i in kept)
        return Table(columns + names, rows, tuple(self._type(name) for name in columns) + types)

    def covers(self, table: Table) -> list[bool]:
        """For each row whether the training had values such as all of its: numbers in their range, texts that it knew.

        :param table: see :meth:`score`, which raises the same.
        """
        columns = self.manifest.schema.features
        # A text that is not known has a code below 0.
        bounds = [(c.minimum, c.maximum) if c.kind == NUMBER else (0.0, None) for c in columns]
        places = [position for position, _ in self._plan(table.column_names)] if table.values else []
        return [
            all(
                # A cell without a value is unlike none.
                position is None or cells[position] is None or _lies(code, low, high)
                for position, code, (low, high) in zip(places, codes, bounds, strict=True)
            )
            for cells, codes in zip(table.values, self.encoded(table) if table.values else [], strict=True)
        ]

    def encoded(self, table: Table) -> list[list[float]]:
        """The rows of a small table as :meth:`matrix` takes them.

        :param table: see :meth:`score`, which raises the same.
        """
        plan = self._plan(table.column_names)
        return [self._encode_row(plan, row, number) for number, row in enumerate(table.values, 1)]

    def answers(self, matrix: NDArray[float32], threshold: float | None = None) -> list[tuple[str, ...]]:
        """The answers to encoded rows, in the columns of :attr:`names`; every cell is a string.

        :param matrix: see :meth:`matrix`.
        :param threshold: see :meth:`score`, which raises the same.
        """
        answers = answer_rows(self.manifest, self._run(matrix))
        return answers if threshold is None else self._relabel(answers, threshold)

    def matrix(self, rows: list[list[float]]) -> NDArray[float32]:
        """Encoded rows as the model takes them.

        :param rows: at least one, of one table or of several; see :meth:`encoded`.
        """
        import numpy as np

        # In 64 bits first: 32 would merge the numbers that the offsets are there to keep apart.
        shifted = rows if self._offsets is None else np.array(rows, np.float64) - self._offsets
        return np.asarray(shifted, np.float32)

    def _relabel(self, answers: list[tuple[str, ...]], threshold: float) -> list[tuple[str, ...]]:
        labels = self.manifest.schema.classes
        if len(labels) != 2 or not self.manifest.probabilities:
            raise rejection("BadParameterValue", "A threshold needs a model that gives probabilities of two classes.")
        positive = str(self.manifest.positive)
        negative = next(label for label in labels if label != positive)
        return [(positive if float(row[1]) >= threshold else negative, *row[1:]) for row in answers]

    def _type(self, name: str) -> str:
        return dict(self.columns().inputs).get(name, "String")

    def _plan(self, names: tuple[str, ...]) -> _Plan:
        if names in self._plans:
            return self._plans[names]
        schema = self.manifest.schema
        positions = {name: position for position, name in enumerate(names)}
        for name in schema.required:
            if name not in positions:
                raise rejection(
                    "InputMismatchError",
                    f"The input has no column {name!r}; expected {', '.join(schema.required)}. "
                    f"Found: {', '.join(names) or 'no columns'}.{hint(name, names, schema.required)}",
                    target=name,
                )
        plan: _Plan = [(positions.get(name), codes) for name, codes in zip(schema.names, self._codes, strict=True)]
        if len(names) <= 2 * len(plan) + 16 and sum(map(len, names)) <= self._longest_names:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
            self._plans[names] = plan
        return plan

    def _encode(self, plan: _Plan, values: Sequence[Sequence[Any]]) -> NDArray[float32]:
        import numpy as np

        if len(values) < MANY:
            return self.matrix([self._encode_row(plan, row, number) for number, row in enumerate(values, 1)])
        matrix = np.empty((len(values), len(plan)), np.float32, order="F")
        columns = list(zip(*values, strict=True))
        for index, (position, codes) in enumerate(plan):
            if position is None:
                matrix[:, index] = self._absent(index)
                continue
            cells = columns[position]
            column = self._column(index, cells) if codes is None else self._texts(index, cells, codes)
            matrix[:, index] = column if self._offsets is None else column - self._offsets[index]
        return np.ascontiguousarray(matrix)

    def _encode_row(self, plan: _Plan, row: Sequence[Any], number: int) -> list[float]:
        encoded = []
        for index, (position, codes) in enumerate(plan):
            if position is None:
                encoded.append(self._absent(index))
                continue
            cell = row[position]
            if codes is None:
                kind = cell.__class__
                if (kind is float or kind is int) and -_LARGEST < cell < _LARGEST:
                    encoded.append(cell)
                else:
                    encoded.append(self._number(index, cell, number))
            elif cell.__class__ is str and cell in codes:
                encoded.append(codes[cell])
            else:
                encoded.append(self._code(index, cell, number))
        return encoded

    def _absent(self, index: int) -> float:
        return _NAN if self.manifest.schema.features[index].kind == NUMBER else UNKNOWN

    def _column(self, index: int, cells: Sequence[Any]) -> NDArray[float64]:
        import numpy as np

        kinds = set(map(type, cells))
        numbers: Iterable[Any] | None = cells if kinds <= _NUMBERS else None
        if kinds == _STRINGS and "_" not in "".join(cells) and not self._rules[index].numbers_missing:
            # Clients of typed languages send numbers as texts.
            numbers = map(float, cells)
        with suppress(ValueError, OverflowError):
            column = np.fromiter(numbers, np.float64, len(cells)) if numbers is not None else np.array([np.inf])
            if (abs(column) < _LARGEST).all():
                return column
        # One of them is unusual; the slow way finds it.
        return np.array([self._number(index, cell, number) for number, cell in enumerate(cells, 1)])

    def _texts(self, index: int, cells: Sequence[Any], codes: dict[str | None, float]) -> Any:
        import numpy as np

        try:
            return np.fromiter(map(codes.__getitem__, cells), np.float32, len(cells))
        except (KeyError, TypeError):  # a cell that no text of the training equals, or that is a list or an object
            return _array(
                [
                    codes[cell] if cell.__class__ is str and cell in codes else self._code(index, cell, number)
                    for number, cell in enumerate(cells, 1)
                ]
            )

    def _number(self, index: int, cell: Any, row: int) -> float:
        """The slow way: a number, a truth value, a text that writes a number, or nothing."""
        value = self._rules[index].number(cell)
        if value is None or abs(value) >= _LARGEST:
            raise not_a_number(self.manifest.schema.features[index].name, row, cell)
        return value

    def _code(self, index: int, cell: Any, row: int) -> float:
        """The slow way: another spelling of a text, a number or a truth value where a text was trained, or nothing."""
        if cell is None:
            return self._absent(index)
        if not isinstance(cell, (str, int, float)):
            name = self.manifest.schema.features[index].name
            message = f"Column {name!r}, row {row}: {type(cell).__name__} where a text or a number is expected."
            raise rejection("InputParseError", message, target=name)
        if self._kinds[index].kind == DATE:
            return self._day(index, str(cell).strip(), row)
        column = self.manifest.schema.features[index]
        key = self.manifest.schema.key
        if index not in self._keys:
            self._keys[index] = {key(column.name, text): float(code) for code, text in enumerate(column.categories)}
        code = self._keys[index].get(key(column.name, cell.strip() if isinstance(cell, str) else cell))
        if code is None and isinstance(cell, bool):
            code = self._keys[index].get(str(int(cell)))
        return UNKNOWN if code is None else code

    def _day(self, index: int, cell: str, row: int) -> float:
        form = self._kinds[index].date_format or ""
        day = _NAN if cell in self._rules[index].missing else dates.days(cell, form)
        if day is None:
            name = self.manifest.schema.features[index].name
            message = f"Column {name!r}, row {row}: {shown(cell)} is not a date in the form {form or 'YYYY-MM-DD'}."
            raise rejection("InputParseError", message, target=name)
        return day


def _lies(code: float, low: float | None, high: float | None) -> bool:
    return (low is None or not code < low) and (high is None or not code > high)


def _array(numbers: Sequence[float]) -> NDArray[float64]:
    import numpy as np

    return np.array(numbers, np.float64)


def answer_rows(manifest: Manifest, answers: Sequence[NDArray[Any]]) -> list[tuple[str, ...]]:
    """The rows of an answer, in the columns of :func:`output_columns`.

    :param manifest: of the model that answered.
    :param answers: numbers, or positions of classes and, if the model gives them, their probabilities.
    """
    if manifest.task != CLASSIFICATION:
        return list(zip(texts_of(answers[0].ravel(), manifest.schema.offset), strict=True))
    classes = manifest.schema.classes
    columns = [[classes[code] for code in answers[0].ravel().tolist()]]
    if manifest.probabilities:
        texts = texts_of(answers[1].ravel())
        probabilities = [texts[position :: len(classes)] for position in range(len(classes))]
        if len(classes) == 2:
            columns.append(probabilities[classes.index(str(manifest.positive))])
        columns += probabilities
    return list(zip(*columns, strict=True))


def _text(cell: Any) -> str | None:
    return cell if cell is None or isinstance(cell, str) else str(cell)


class _Codes(dict["str | None", float]):
    """Codes of the texts of a column."""

    __slots__ = ("__weakref__",)


def _codes(column: Column, kind: Kind, usual: Sequence[str]) -> dict[str | None, float] | None:
    if column.kind == NUMBER:
        # A date is a number that is never read at once.
        return {} if kind.kind == DATE else None
    codes = _Codes(dict.fromkeys(kind.missing_texts(usual), UNKNOWN))
    codes.update((text, float(code)) for code, text in enumerate(column.categories))
    return shared(codes, (column.categories, kind))


def output_columns(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """Names and types of the columns that a model answers with.

    :param manifest: of the model.
    """
    if manifest.task != CLASSIFICATION:
        return ((LABELS, "Double"),)
    columns = [(LABELS, "String")]
    if manifest.probabilities:
        columns += [(PROBABILITIES, "Double")] * (len(manifest.schema.classes) == 2)
        columns += [(f'{PROBABILITIES} for Class "{label}"', "Double") for label in manifest.schema.classes]
    return tuple(columns)
