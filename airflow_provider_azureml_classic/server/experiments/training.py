"""One training run: CSV in, model file and evaluation out. Runs in a worker process."""

from __future__ import annotations

import csv
import io
import json
import time
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import conversion, estimators
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, write_atomically, write_ilearner
from airflow_provider_azureml_classic.server.experiments.metrics import Metrics, evaluate
from airflow_provider_azureml_classic.server.experiments.schema import (
    NUMBER,
    Schema,
    encode,
    encode_label,
    infer,
)
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.experiments.tables import Frame, read_csv
from airflow_provider_azureml_classic.server.experiments.window import Window, window_of

if TYPE_CHECKING:
    from numpy import float32, int64
    from numpy.typing import NDArray

_GOLDEN = 5
_COMPARED = 1000


@dataclass(frozen=True)
class TrainingSummary:
    """What a training run did.

    :param rows: training rows.
    :param columns: features.
    :param metrics: as in the evaluation; ``None`` where a metric is not defined.
    :param window: first and last time of the training data, if it is dated.
    :param sha256: of the model file.
    :param length: of the model file, in bytes.
    :param seconds: how long it took.
    :param notes: what a reader of the metrics should know.
    :param schema: to be given to later training runs, so that they keep to it.
    """

    rows: int
    columns: int
    metrics: Metrics
    window: Window | None
    sha256: str
    length: int
    seconds: float
    notes: tuple[str, ...]
    schema: Schema


def train(
    experiment: Experiment,
    schema: Schema | None,
    data: Path,
    model: Path,
    evaluation: Path,
) -> TrainingSummary:
    """Train a model and write it and its evaluation.

    The metrics are those of a model fitted without the held-out rows; the model written is then fitted on all rows.

    :param experiment: what to train.
    :param schema: of an earlier training; ``None``: this is the first data, infer it.
    :param data: a CSV file.
    :param model: where to write the ``.ilearner`` file.
    :param evaluation: where to write the evaluation, a CSV of one row.
    :raises RequestRejected: the data does not fit the schema, or the estimator failed; the message says why.
    """
    import sklearn.ensemble  # noqa: F401 - its OpenMP library must be loaded before it can be limited
    from threadpoolctl import threadpool_limits

    # One thread a training: there is a worker process for each core, and OpenMP threads that wait for a core spin
    # (measured: 94 s instead of 7 s for two processes on two cores).
    with threadpool_limits(limits=1):
        return _train(experiment, schema, data, model, evaluation)


def _train(experiment: Experiment, schema: Schema | None, data: Path, model: Path, evaluation: Path) -> TrainingSummary:
    start = time.perf_counter()
    frame, schema = _read(experiment, schema, data)
    window = window_of(schema, frame, experiment.time_column)
    schema, positive = estimators.with_positive(experiment, schema)
    matrix, truth = encode(schema, frame), encode_label(schema, frame)
    metrics, note = _evaluated(experiment, schema, matrix, truth)
    fitted, troubles = _fitted(experiment, schema, matrix, truth)
    graph = conversion.to_onnx(experiment, fitted, matrix[_spread(len(matrix), _COMPARED)], schema.task)
    manifest = Manifest(
        experiment=experiment.name,
        task=schema.task,
        schema=schema,
        metrics=metrics,
        rows=frame.rows,
        window=window,
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        versions=conversion.versions(),
        sha256=sha256(graph).hexdigest(),
        positive=positive,
        probabilities=hasattr(fitted, "predict_proba"),
    )
    golden = _golden(Scorer(manifest, graph, ""), schema, frame)
    digest, length = write_ilearner(model, graph, manifest)
    write_atomically(evaluation, _evaluation(metrics, frame.rows, window, golden))
    notes = tuple(filter(None, (note, *troubles)))
    return _summary(manifest, digest, length, time.perf_counter() - start, notes)


def _summary(manifest: Manifest, digest: str, length: int, seconds: float, notes: tuple[str, ...]) -> TrainingSummary:
    return TrainingSummary(
        rows=manifest.rows,
        columns=len(manifest.schema.features),
        metrics=manifest.metrics,
        window=manifest.window,
        sha256=digest,
        length=length,
        seconds=seconds,
        notes=notes,
        schema=manifest.schema,
    )


def _read(experiment: Experiment, schema: Schema | None, data: Path) -> tuple[Frame, Schema]:
    declared = {experiment.label, experiment.time_column, *(experiment.features or ()), *experiment.optional}
    names = schema.required if schema else experiment.features or ()
    # Where the features are "all columns", the first data decides which there are.
    known = {*declared, *(schema.names if schema else ())} if schema or experiment.features else None
    frame = read_csv(data, expected=(*names, experiment.label), wanted=known)
    schema = schema or infer(experiment, frame, estimators.task_of(experiment))
    return frame, schema.learnt(frame)


def _spread(rows: int, count: int) -> NDArray[int64]:
    """Positions of at most ``count`` rows, evenly spread over all."""
    import numpy as np

    return np.unique(np.linspace(0, rows - 1, min(rows, count)).astype(np.int64))


def _evaluated(
    experiment: Experiment, schema: Schema, matrix: NDArray[float32], truth: NDArray[Any]
) -> tuple[Metrics, str]:
    fitting, held = _split(truth, experiment.test_fraction, len(schema.classes))
    model, _ = _fitted(experiment, schema, matrix[fitting], truth[fitting])
    note = "" if fitting is not held else "Too few rows to hold any out: the metrics are those on the training rows."
    return evaluate(model, matrix[held], truth[held], schema.task, len(schema.classes)), note


def _split(truth: NDArray[Any], fraction: float, classes: int) -> tuple[NDArray[int64], NDArray[int64]]:
    """Rows to fit on and rows to hold out; twice the same (all) where there are too few."""
    import numpy as np
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(truth))
    counts = np.bincount(truth) if classes else np.array([len(truth)])
    held = int(np.ceil(fraction * len(truth)))
    # Each class needs a row on both sides; a metric of fewer than two held-out rows means nothing.
    if held < max(2, classes) or len(truth) - held < max(2, classes) or counts.min() < 2:
        return rows, rows
    fitting, test = train_test_split(rows, test_size=held, random_state=0, stratify=truth if classes else None)
    return np.sort(fitting), np.sort(test)


def _fitted(
    experiment: Experiment, schema: Schema, matrix: NDArray[float32], truth: NDArray[Any]
) -> tuple[Any, list[str]]:
    """The estimator fitted on these rows, and what it warned about."""
    import numpy as np

    # Boosting cannot bin a column without any value; a constant one tells it as little.
    matrix = np.where(np.isnan(matrix).all(axis=0), np.float32(0), matrix)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = estimators.guarded(experiment, lambda: estimators.make(experiment, schema).fit(matrix, truth))
    troubles = (warning for warning in caught if issubclass(warning.category, UserWarning))
    return model, list(dict.fromkeys(" ".join(str(warning.message).split())[:200] for warning in troubles))


def _golden(scorer: Scorer, schema: Schema, frame: Frame) -> str:
    """A few rows of the data with the answers of the new model, so that anyone can prove which model is live."""
    there = [column for column in schema.features if column.name in frame.columns]
    values = []
    for row in _spread(frame.rows, _GOLDEN).tolist():
        cells = {column.name: _cell(frame, column.name, row) for column in there}
        numbers = {column.name for column in there if column.kind == NUMBER}
        values.append([_golden_cell(schema, frame, cell, name in numbers) for name, cell in cells.items()])
    table = Table(tuple(column.name for column in there), values)
    answer = scorer.score(table)
    return json.dumps({"Input": table.to_wire(), "Output": answer.to_wire()})


def _cell(frame: Frame, name: str, row: int) -> str:
    cells = frame.columns[name]
    return cells.distinct[int(cells.codes[row])]


def _golden_cell(schema: Schema, frame: Frame, cell: str, number: bool) -> str | float | None:
    if schema.is_missing(cell):
        return None
    if not number:
        return cell
    value = frame.number(cell)
    return int(value) if value is not None and value.is_integer() else value


def _evaluation(metrics: Metrics, rows: int, window: Window | None, golden: str) -> bytes:
    start, end = window or ("", "")
    numbers = {name: "" if value is None else repr(value) for name, value in metrics.items()}
    row = {**numbers, "Rows": str(rows), "Window Start": start, "Window End": end, "Golden Rows": golden}
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([row.keys(), row.values()])
    return stream.getvalue().encode()
