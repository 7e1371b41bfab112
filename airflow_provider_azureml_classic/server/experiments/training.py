"""One training run: rows in, model file and evaluation out. Runs in a worker process."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.arff import NUMERIC, STRING, Attribute
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS, GOLDEN_ROWS, HELD_OUT
from airflow_provider_azureml_classic.server.experiments import boosting, conversion, estimators, precision
from airflow_provider_azureml_classic.server.experiments.contract import Contract, NewData, Terms, compare
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.server.experiments.formats import writer
from airflow_provider_azureml_classic.server.experiments.frame import Frame, chosen, joined, read_table
from airflow_provider_azureml_classic.server.experiments.ilearner import (
    Manifest,
    read_ilearner,
    write_atomically,
    write_ilearner,
)
from airflow_provider_azureml_classic.server.experiments.metrics import Metrics, evaluate
from airflow_provider_azureml_classic.server.experiments.preview import notes_of, seen_in
from airflow_provider_azureml_classic.server.experiments.profile import profile_of, spread
from airflow_provider_azureml_classic.server.experiments.samples import (
    FILE,
    check_rows,
    golden_rows,
)
from airflow_provider_azureml_classic.server.experiments.schema import (
    UNKNOWN,
    Schema,
    decided,
    encode,
    encode_label,
)
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.experiments.window import Span, window_of
from airflow_provider_azureml_classic.tables.description import Description
from airflow_provider_azureml_classic.tables.kinds import file_decimal

if TYPE_CHECKING:
    from numpy import int64
    from numpy.typing import NDArray

_COMPARED = 1000


@dataclass(frozen=True)
class TrainingSummary:
    """What a training run did.

    :param manifest: of the model.
    :param sha256: of the model file.
    :param length: of the model file, in bytes.
    :param content: digest of what the model answers with, see :func:`~.ilearner.content_digest`.
    :param seconds: how long it took.
    :param notes: what a reader of the metrics should know.
    :param read: rows of the training data; those are used that a parameter of the call did not leave out.
    :param seen: the columns of the first training data; empty for any later one.
    """

    manifest: Manifest
    sha256: str
    length: int
    content: str
    seconds: float
    notes: tuple[str, ...]
    read: int = 0
    seen: tuple[Description, ...] = ()

    @property
    def rows(self) -> int:
        """Training rows."""
        return self.manifest.rows

    @property
    def columns(self) -> int:
        """Features."""
        return len(self.manifest.schema.features)

    @property
    def metrics(self) -> Metrics:
        """As in the evaluation; ``None`` where a metric is not defined."""
        return self.manifest.metrics

    @property
    def window(self) -> Span | None:
        """First and last time of the training data, if it is dated."""
        return self.manifest.window

    @property
    def schema(self) -> Schema:
        """To be given to later training runs, so that they keep to it."""
        return self.manifest.schema


def train(
    experiment: Experiment,
    schema: Schema | None,
    data: Path,
    model: Path,
    evaluation: Path,
    held: Path | None = None,
    samples: Path | None = None,
    columns: bool = False,
    *more: Path,
    look: Callable[[NewData], None] = lambda _: None,
) -> TrainingSummary:
    """Train a model and write it and its evaluation.

    The metrics are those of a model fitted without the held-out rows; the model written is then fitted on all rows.
    With rows of their own for the metrics none are held out.

    :param experiment: what to train.
    :param schema: of an earlier training; ``None``: this is the first data, infer it.
    :param data: a file of rows: CSV, TSV or ARFF, as its extension says.
    :param model: where to write the ``.ilearner`` file.
    :param evaluation: where to write the evaluation, one row in the format of its extension.
    :param held: a file of rows for the metrics.
    :param samples: where to write golden and check rows, a JSON object.
    :param columns: write them into the evaluation, too, which is numbers alone otherwise, and with them the window of
        the data: providers of the first version look for them there. A cell holds fewer check rows of a wide table.
    :param more: further files to train on, with the same columns.
    :param look: is shown the data before anything is fitted; what it raises ends the training.
    :raises RequestRejected: the data does not fit the schema, or the estimator failed; the message says why.
    """
    import sklearn.ensemble  # noqa: F401 - its OpenMP library must be loaded before it can be limited
    from threadpoolctl import threadpool_limits

    # One thread a training: there is a worker process for each core, and OpenMP threads that wait for a core spin
    # (measured: 94 s instead of 7 s for two processes on two cores).
    with threadpool_limits(limits=1):
        return _train(experiment, schema, (data, *more), held, model, _Files(evaluation, samples, columns), look)


@dataclass(frozen=True)
class _Files:
    """Where to write what is said of a model, see :func:`train`."""

    evaluation: Path
    samples: Path | None
    columns: bool


class _NotTrained(Exception):
    """The data are looked at, and nothing is trained on them."""


def train_checked(terms: Terms, live: Path | None, *arguments: Any) -> tuple[Contract, TrainingSummary | None]:
    """Compare the data with those of the live model, then train on them, unless the terms or the data forbid it.

    :param terms: of the data check.
    :param live: file of the live model; ``None``: there is none.
    :param arguments: of :func:`train`, which raises the same.
    :return: what was found, and the training, if there was one.
    """
    found: list[Contract] = []

    def look(data: NewData) -> None:
        found.append(compare(read_ilearner(live)[0] if live else None, data, terms))
        if terms.only or found[0].problem(terms.strict) is not None:
            raise _NotTrained

    try:
        summary: TrainingSummary | None = train(*arguments, look=look)
    except _NotTrained:
        summary = None
    return found[0], summary


def _train(
    experiment: Experiment,
    schema: Schema | None,
    data: Sequence[Path],
    held: Path | None,
    model: Path,
    files: _Files,
    look: Callable[[NewData], None],
) -> TrainingSummary:
    start = time.perf_counter()
    frame, schema, seen, read = _read(experiment, schema, data)
    schema, positive = estimators.with_positive(experiment, schema)
    schema, shifts = precision.shifted(experiment, schema, frame)
    matrix = encode(schema, frame, wide=not estimators.compares(experiment, schema))
    truth = encode_label(schema, frame)
    profile = profile_of(schema, matrix, truth)
    look(NewData(frame, schema, matrix, truth, profile, experiment.time_column))
    test = _evaluated(experiment, schema, frame, matrix, truth) if held is None else None
    fitted, troubles = _fitted(experiment, schema, matrix, truth)
    test = test or _evaluated_on(experiment, schema, held or data[0], fitted, matrix.dtype.itemsize > 4)
    graph, doubts = _graph(experiment, schema, fitted, matrix, truth, shifts)
    manifest = Manifest(
        experiment=experiment.name,
        task=schema.task,
        schema=schema,
        metrics=test.metrics | {HELD_OUT: float(len(test.rows))},
        rows=frame.rows,
        window=window_of(schema, frame, experiment.time_column),
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        versions=conversion.versions() | boosting.version(fitted),
        sha256=sha256(graph).hexdigest(),
        positive=positive,
        probabilities=hasattr(fitted, "predict_proba"),
        profile=profile | {"fitted": test.facts(frame.rows)},
    )
    digest, length = write_ilearner(model, graph, manifest)
    scorer = Scorer(manifest, graph, "")
    _write_evaluation(files, manifest, golden_rows(scorer, frame, test.answers), test, experiment.time_column)
    notes = tuple(filter(None, (test.note, *test.guesses(frame), *notes_of(seen), *shifts, *troubles, *doubts)))
    return TrainingSummary(manifest, digest, length, scorer.content, time.perf_counter() - start, notes, read, seen)


def _read(
    experiment: Experiment, schema: Schema | None, data: Sequence[Path]
) -> tuple[Frame, Schema, tuple[Description, ...], int]:
    declared = {experiment.label, experiment.time_column, *(experiment.features or ()), *experiment.optional}
    names = schema.required if schema else experiment.features or ()
    # Where the features are "all columns", the first data decides which there are.
    known = {*declared, *(schema.names if schema else ())} if schema or experiment.features else None
    wanted = known and {*known, *experiment.rows}
    expected = (*names, experiment.label)
    tables = [read_table(path, expected=expected, wanted=wanted, encoding=experiment.encoding) for path in data]
    kinds = {**experiment.columns, **(schema.decided if schema else {})}
    every = joined(tables, (*experiment.optional, experiment.time_column or ""), experiment.missing, kinds)
    table = chosen(every, experiment.rows)
    later, decision = decided(experiment, table, estimators.task_of(experiment), schema)
    later.check_columns(table)
    decision.check()
    notes = schema.check_thousands(table, decision.decimal) if schema else ()
    seen = () if schema else seen_in(experiment, table, decision)
    frame = Frame(table, decision.decimal, notes)
    return frame, later.learnt(frame), seen, every.rows


@dataclass(frozen=True)
class _Test:
    """Metrics, and the rows that they are about.

    :param metrics: by name.
    :param frame: holds the rows.
    :param rows: their positions; none if they were trained on.
    :param answers: to each of them, as a model that did not see them would give when served.
    :param model: which model was measured, in words.
    :param note: what a reader should know.
    """

    metrics: Metrics
    frame: Frame
    rows: NDArray[int64]
    answers: Sequence[NDArray[Any]]
    model: str
    note: str = ""

    def facts(self, rows: int) -> dict[str, Any]:
        """For the manifest: on how many rows the model that is written was fitted, and what its metrics are about.

        :param rows: of the training data.
        """
        return {"rows": rows, "metrics": self.model, "held_out": len(self.rows)}

    def guesses(self, frame: Frame) -> Iterable[str]:
        """What was guessed of the files that were read.

        :param frame: the training data.
        """
        return dict.fromkeys((*frame.guesses, *self.frame.guesses))


def _evaluated(
    experiment: Experiment, schema: Schema, frame: Frame, matrix: NDArray[Any], truth: NDArray[Any]
) -> _Test:
    """A model fitted without some rows, measured on these."""
    fitting, held = split(truth, experiment.test_fraction, len(schema.classes))
    model, _ = _fitted(experiment, schema, matrix[fitting], truth[fitting])
    asked = held if len(held) else fitting
    rows = _without_unseen(schema, matrix[asked], matrix[fitting])
    answers = estimators.guarded(experiment, lambda: conversion.as_served(model, rows))
    metrics = evaluate(answers, truth[asked], schema.task, len(schema.classes))
    if len(held):
        return _Test(metrics, frame, held, answers, "a model fitted without the held-out rows, on these")
    note = "Too few rows to hold any out: the metrics are those on the training rows."
    return _Test(metrics, frame, held, answers, "this model, on the training rows", note)


def _without_unseen(schema: Schema, rows: NDArray[Any], fitting: NDArray[Any]) -> NDArray[Any]:
    """The rows with categories that a model did not see encoded as unknown, as they would be if it were served."""
    import numpy as np

    for position, column in enumerate(schema.features):
        if column.categories:
            unseen = ~np.isin(rows[:, position], np.unique(fitting[:, position]))
            rows[unseen, position] = UNKNOWN
    return rows


def _evaluated_on(experiment: Experiment, schema: Schema, data: Path, model: Any, wide: bool) -> _Test:
    """The model measured on rows of another file."""
    import numpy as np

    wanted = {experiment.label, *schema.names, *experiment.rows}
    expected = (*schema.required, experiment.label)
    table = read_table(data, expected=expected, wanted=wanted, encoding=experiment.encoding)
    table = chosen(table, experiment.rows)
    frame = Frame(table, file_decimal(table, schema.decided, schema.missing))
    schema.check_evaluation(frame)
    frame = replace(frame, notes=schema.check_thousands(table, frame.decimal))
    matrix, truth = encode(schema, frame, wide=wide), encode_label(schema, frame)
    answers = estimators.guarded(experiment, lambda: conversion.as_served(model, matrix))
    metrics = evaluate(answers, truth, schema.task, len(schema.classes))
    return _Test(metrics, frame, np.arange(frame.rows), answers, "this model, on the rows of another file")


def split(truth: NDArray[Any], fraction: float, classes: int) -> tuple[NDArray[int64], NDArray[int64]]:
    """Rows to fit on and rows to hold out; none of the latter where there are too few.

    :param truth: the encoded labels.
    :param fraction: to hold out.
    :param classes: number of classes, 0 for numbers.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(truth))
    counts = np.bincount(truth) if classes else np.array([len(truth)])
    # A model must know each class: the only row of one is always fitted on.
    single = counts[truth] < 2 if classes else np.zeros(len(truth), bool)
    free = rows[~single]
    held = int(np.ceil(fraction * len(truth)))
    several = int((counts > 1).sum())
    by_class = classes > 0 and min(held, len(free) - held) >= several
    if classes and not by_class:
        free = np.setdiff1d(free, np.unique(truth, return_index=True)[1])
    # A metric of fewer than two held-out rows means nothing.
    if held < 2 or len(free) - held < (several if by_class else 0 if classes else 2):
        return rows, rows[:0]
    test = train_test_split(free, test_size=held, random_state=0, stratify=truth[free] if by_class else None)[1]
    return np.setdiff1d(rows, test), np.sort(test)


def _fitted(experiment: Experiment, schema: Schema, matrix: NDArray[Any], truth: NDArray[Any]) -> tuple[Any, list[str]]:
    """The estimator fitted on these rows, and what it warned about."""
    import numpy as np

    empty = np.isnan(matrix).all(axis=0)
    if empty.any():
        # Boosting cannot bin a column without any value; a constant one tells it as little.
        matrix = np.where(empty, matrix.dtype.type(0), matrix)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = estimators.guarded(experiment, lambda: estimators.make(experiment, schema).fit(matrix, truth))
    troubles = (warning for warning in caught if issubclass(warning.category, UserWarning))
    return model, list(dict.fromkeys(" ".join(str(warning.message).split())[:200] for warning in troubles))


def _graph(
    experiment: Experiment, schema: Schema, model: Any, matrix: NDArray[Any], truth: NDArray[Any], shifts: list[str]
) -> tuple[bytes, list[str]]:
    """The model's graph, and what is to be known of it; where it is refused, columns without a shift are the cause."""
    rows = spread(len(matrix), _COMPARED)
    try:
        return conversion.to_onnx(experiment, schema, model, matrix[rows], truth[rows], rows)
    except AzureMLClassicError as error:
        if not shifts:
            raise
        raise rejection(
            "ModuleExecutionError", " ".join([error.message, *shifts]), target=experiment.estimator
        ) from None


def _write_evaluation(files: _Files, manifest: Manifest, golden: str, test: _Test, time_column: str | None) -> None:
    check = partial(check_rows, manifest, test.frame, test.rows, test.answers, time_column)
    numbers = {name: "" if value is None else repr(value) for name, value in manifest.metrics.items()}
    numbers |= {"Rows": str(manifest.rows)}
    start, end = manifest.window or ("", "")
    texts = (
        {"Window Start": start, "Window End": end, GOLDEN_ROWS: golden, CHECK_ROWS: check()} if files.columns else {}
    )
    columns = [Attribute(name, NUMERIC) for name in numbers] + [Attribute(name, STRING) for name in texts]
    stream = io.StringIO(newline="")
    writer(stream, files.evaluation, columns, "evaluation").writerows([[*numbers.values(), *texts.values()]])
    write_atomically(files.evaluation, stream.getvalue().encode())
    if files.samples is not None:
        text = f'{{"{GOLDEN_ROWS}": {golden}, "{CHECK_ROWS}": {check(FILE) or "null"}}}'
        write_atomically(files.samples, text.encode())
