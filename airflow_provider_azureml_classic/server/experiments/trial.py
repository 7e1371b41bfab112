"""A model's trial, before it is put in place: rules, several rows, memory and time; and its answers to a client's rows.

As a program it is told how many seconds of a processor a trial may take. It reads questions, one a line, and writes a
line of JSON for each: the answer, and the code and message of what is wrong. What takes longer ends, and the process
with it. A graph from elsewhere may take any time and memory, or the process with it: so this one is none that serves.

Rule: what a graph makes is bounded by what it is. A table of any size is written in a few bytes, so a graph is given
memory for as many values as it keeps and is asked, see :func:`_room`; what it takes here, it takes for each call.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import CHECK_ROWS
from airflow_provider_azureml_classic.protocol.model_file import UNREADABLE
from airflow_provider_azureml_classic.protocol.model_scoring import HeldOutRows, ModelAnswers
from airflow_provider_azureml_classic.protocol.moments import read_time
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.server.experiments import graph_rules
from airflow_provider_azureml_classic.server.experiments.graph import step_of
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, read_ilearner
from airflow_provider_azureml_classic.server.experiments.replay import rehearse
from airflow_provider_azureml_classic.server.experiments.samples import FILE
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.folders import read_file

#: Bytes of a model file for which a trial may take a second more.
BYTES_A_SECOND = 16 << 20
#: Bytes that it may take: so many, and so many more for each of the model file.
FREE_MEMORY, MEMORY_A_BYTE = 1 << 30, 16
#: Bytes that a graph may take while it is loaded, and while it answers as many rows as it is ever given: so many, so
#: many more for each of its own, and for each row and each value that it is asked, answers or compares a row with. Of
#: the estimators that convert, forests take most: over 5 for each byte; the others a third of what they may at most.
ROOM, ROOM_A_BYTE, ROOM_A_VALUE = 32 << 20, 24, 32
#: What is said where memory ends.
_NO_MEMORY = ("bad_alloc", "Failed to allocate memory")

#: Lets what is done within take no more than so many bytes.
Bounded = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    :param model: its file.
    :param experiment: of which it must be; ``None``: any, and it is tried alone.
    :param rows: to score.
    :param samples: the file of the samples of another model, whose held-out rows are scored instead.
    :param trusted: it was put in place before, and is not tried again.
    :param live: the file of the model that answers now, to which it is compared.
    :param calls: rows that both answer, newest first.
    :param threshold: of their labels.
    """

    model: Path
    experiment: str | None = None
    rows: Table | None = None
    samples: Path | None = None
    trusted: bool = False
    live: Path | None = None
    calls: Sequence[Table] = ()
    threshold: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        rows = self.rows.to_wire() if self.rows else None
        samples, live = (str(path) if path else None for path in (self.samples, self.live))
        calls = [[call.column_names, call.values] for call in self.calls]
        paths = {"model": str(self.model), "samples": samples, "live": live}
        return {**self.__dict__, **paths, "rows": rows, "calls": calls}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Question:
        """The question that :meth:`to_json` wrote.

        :param value: decoded JSON.
        """
        rows = Table.from_wire(value["rows"]) if value["rows"] else None
        samples, live = (Path(value[name]) if value[name] else None for name in ("samples", "live"))
        calls = [Table(tuple(names), values) for names, values in value["calls"]]
        plain = {name: value[name] for name in ("experiment", "trusted", "threshold")}
        return cls(Path(value["model"]), rows=rows, samples=samples, live=live, calls=calls, **plain)


def _unbounded(size: int) -> AbstractContextManager[None]:
    """For who is no process of its own."""
    return nullcontext()


def answered(question: Question, bounded: Bounded = _unbounded) -> ModelAnswers | Rehearsal | None:
    """The answers of a model, or how they differ from those of another; ``None`` if it was only to be tried.

    :param question: what is asked.
    :param bounded: see :func:`tried`.
    :raises RequestRejected: see :func:`tried`; ``ModelInvalid`` too for a model of another experiment; otherwise as
        :meth:`~.scorer.Scorer.score` does.
    """
    if not question.trusted:
        tried(question.model, bounded)
    if question.experiment is None:
        return None
    scorer = Scorer.load(question.model)
    if scorer.manifest.experiment != question.experiment:
        raise _invalid(f"it is of the experiment {scorer.manifest.experiment!r}, not of {question.experiment!r}")
    if question.live is not None:
        return rehearse(Scorer.load(question.live), scorer, question.calls, question.threshold)
    digests = Digests(scorer.digest, scorer.content)
    if question.samples is not None:
        return _answered_held_out(scorer, digests, question.samples)
    rows = question.rows or Table((), [])
    if len(rows.values) > scorer.most_rows:
        raise rejection("InputParseError", f"At most {scorer.most_rows:,} rows a call can be asked of this model.")
    return ModelAnswers(scorer.score(rows), digests)


def _check_rows(samples: Path) -> tuple[list[Any], Table, Table, Any] | None:
    """Labels, rows, the live model's answers and times of the rows that were held out; ``None``: there are none.

    :raises ServiceUnavailable: the file is damaged, which is no fault of the model that is asked.
    """
    try:
        check = json.loads(read_file(samples, FILE)).get(CHECK_ROWS)
        if check is None:
            return None
        tables = Table.from_wire(check["Input"]), Table.from_wire(check["Output"])
        return [*check["Labels"]], *tables, check.get("Times")
    except (*UNREADABLE, AzureMLClassicError):
        text = "The held-out rows of the live model cannot be read: the file of its samples was changed or damaged."
        raise rejection("ResourceLoadFailed", f"{text} Train a model again and put it in place.") from None


def _answered_held_out(scorer: Scorer, digests: Digests, samples: Path) -> ModelAnswers:
    """The answers to the rows that were held out of another model's training, but for those that this one may know."""
    check = _check_rows(samples)
    if check is None:
        return ModelAnswers(Table((), []), digests)
    labels, table, live, times = check
    known = _unknown(scorer.manifest.window, times)
    kept = list(range(len(labels))) if known is None else known
    left_out = None if known is None else len(labels) - len(kept)
    alike = [row for row, fits in zip(kept, scorer.covers(_at(table, kept)), strict=True) if fits]
    told = HeldOutRows(labels, live, alike, None, left_out, len(kept) - len(alike))
    return ModelAnswers(scorer.score(_at(table, alike)), digests, told)


def _at(table: Table, rows: Sequence[int]) -> Table:
    return Table(table.column_names, [table.values[row] for row in rows])


def _unknown(window: tuple[str, str] | None, times: list[str | None] | None) -> list[int] | None:
    """Positions of the rows whose time is not in a window; ``None``: that cannot be told."""
    ends = [read_time(text) for text in window or ()]
    if not ends or None in ends or not times:
        return None
    first, last = (end for end in ends if end is not None)
    moments = [read_time(text) for text in times]
    return [row for row, moment in enumerate(moments) if moment is not None and not first <= moment <= last]


def tried(path: Path, bounded: Bounded = _unbounded) -> None:
    """Try a model.

    :param path: its file.
    :param bounded: limits the memory that its graph takes.
    :raises RequestRejected: ``ModelInvalid``: it breaks a rule, cannot be loaded, or does not give as many answers as
        it is given rows.
    """
    manifest, content = read_ilearner(path)
    problem = graph_rules.problem(content)
    if problem:
        raise _invalid(f"{problem}. A model holds only what this server's own trainings write")
    room, step = _room(manifest, content), step_of(content)
    with _told(f"it takes more than {room >> 20} MiB of memory for {step} rows"), bounded(room):
        with _readable():
            scorer = Scorer(manifest, content, "")
        # As many as a call is ever given at a time: whatever the rows are, no call takes more than this one.
        for rows in (2, 7, step):
            _check_rows_fit(scorer, rows)
    with _readable():
        _count_one(scorer)


def _check_rows_fit(scorer: Scorer, rows: int) -> None:
    try:
        fits = scorer.fits(rows)
    except MemoryError:
        raise
    except Exception as error:  # onnxruntime's errors have no common base
        raise _invalid(f"{rows} rows: {' '.join(str(error).split())[:300]}") from None
    if not fits:
        raise _invalid(f"it does not give an answer as its manifest describes it for each of {rows} rows")


@contextmanager
def _told(reason: str) -> Iterator[None]:
    """The end of memory, in whatever words the libraries tell it."""
    try:
        yield
    except AzureMLClassicError as error:
        if any(sign in error.message for sign in _NO_MEMORY):
            raise _invalid(reason) from None
        raise
    except MemoryError:
        raise _invalid(reason) from None


def _room(manifest: Manifest, content: bytes) -> int:
    """Bytes that a graph may take."""
    values = graph_rules.largest_constant(content) // 4 + len(manifest.schema.features) + len(manifest.schema.classes)
    return ROOM + ROOM_A_BYTE * len(content) + ROOM_A_VALUE * step_of(content) * values


@contextmanager
def _readable() -> Iterator[None]:
    """Whatever the members of a model's manifest and profile do not fit is damage."""
    try:
        yield
    except (AzureMLClassicError, MemoryError):
        raise
    except Exception as error:
        raise _invalid(f"its manifest or its profile is damaged ({type(error).__name__}: {error})") from None


def _count_one(scorer: Scorer) -> None:
    """Count a row, as is done with those of a model that is called."""
    import numpy as np

    names = scorer.manifest.schema.names
    scorer.histogram.count(np.zeros((1, len(names)), np.float32), [([None] * len(names), names)])


def _invalid(reason: str) -> AzureMLClassicError:
    return rejection("ModelInvalid", f"The trained model cannot be used: {reason}. Train it again.")


def _limit(size: int, seconds: int) -> None:
    """Let this process have as much as a trial may have, besides what it has."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _lower(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds + size // BYTES_A_SECOND)
    _lower(resource.RLIMIT_AS, _taken() + FREE_MEMORY + MEMORY_A_BYTE * size)


def _taken() -> int:
    """Bytes of addresses that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """See :data:`Bounded`; what a trial may take is not exceeded."""
    # What it takes is none of a graph's.
    import onnxruntime  # noqa: F401

    before = resource.getrlimit(resource.RLIMIT_AS)[0]
    _lower(resource.RLIMIT_AS, min(before, _taken() + size))
    try:
        yield
    finally:
        _lower(resource.RLIMIT_AS, before)


def _lower(kind: int, most: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def main() -> None:
    """Answer questions until there are no more."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        question = Question.from_json(json.loads(line))
        _limit(question.model.stat().st_size, int(sys.argv[1]))
        answer: dict[str, Any] | None = None
        refused: tuple[str, str] | None = None
        try:
            answers = answered(question, _bounded)
            answer = answers.to_wire() if answers else None
        except AzureMLClassicError as error:
            detail = error.details[0] if error.details else None
            refused = (detail.code, detail.message) if detail else ("ModelInvalid", error.message)
        except MemoryError:
            refused = "ModelInvalid", "The trained model cannot be used: it takes too much memory. Train it again."
        try:
            print(json.dumps([answer, refused]), flush=True)
        except BrokenPipeError:
            # The server was killed; at its end Python would try to write once more.
            os._exit(0)


if __name__ == "__main__":
    main()
