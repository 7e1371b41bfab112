"""What a person should see of an experiment's first data before anything is trained on them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.server.experiments import estimators
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment
from airflow_provider_azureml_classic.server.experiments.frame import first_table, read_table
from airflow_provider_azureml_classic.server.experiments.schema import Schema, decided
from airflow_provider_azureml_classic.tables.description import Description, describe, lines
from airflow_provider_azureml_classic.tables.kinds import IGNORE, Decision
from airflow_provider_azureml_classic.tables.table import Table


def parser() -> argparse.ArgumentParser:
    """The arguments of ``azureml-classic-server check``."""
    options = argparse.ArgumentParser(
        prog="azureml-classic-server check",
        description="Shows what each column of the first data is taken for. Nothing is trained, and no server runs.",
    )
    options.add_argument("source", metavar="FILE.toml|MODULE:NAME", help="declarations, in TOML or in Python")
    return options


def show(experiments: Iterable[Experiment]) -> bool:
    """Print a line for each column of each experiment's first data; returns whether all of them can be set up.

    :param experiments: as declared.
    :raises (OSError, AzureMLClassicError): data cannot be read.
    """
    whole = True
    for experiment in experiments:
        table, usable = preview(experiment)
        print(*table, sep="\n", end="\n\n")
        whole = whole and usable
    return whole


def seen_in(experiment: Experiment, table: Table, decision: Decision) -> tuple[Description, ...]:
    """The columns of the first data: those that are used, then those that are not.

    :param experiment: the declaration.
    :param table: the data.
    :param decision: what the columns are.
    """
    used = describe(table, decision, experiment.missing, experiment.label)
    others = [Description(name, IGNORE) for name in table.names if name not in decision.kinds]
    return (*used, *others)


def notes_of(seen: Iterable[Description]) -> list[str]:
    """What should be looked at, a sentence a column.

    :param seen: the columns.
    """
    return [f"Column {one.column!r}: {one.note.removesuffix('.')}." for one in seen if one.note]


def preview(experiment: Experiment) -> tuple[list[str], bool]:
    """What is read in the first data, as lines of text, and whether an experiment could be set up with them.

    :param experiment: the declaration.
    :raises (OSError, AzureMLClassicError): the data cannot be read.
    """
    table = first_table(experiment, expected=(experiment.label,))
    schema, decision = decided(experiment, table, estimators.task_of(experiment), None)
    schema.check_columns(table)
    seen = table_of(experiment, table.rows, seen_in(experiment, table, decision))
    return [*seen, *filter(None, [table.origin.note])], not decision.problems


@dataclass(frozen=True)
class Understood:
    """What is read in a file that may be trained on.

    :param rows: how many it has.
    :param columns: what they are taken for.
    :param problem: why nothing can be trained on it; empty: nothing is known to be in the way.
    """

    rows: int
    columns: tuple[Description, ...]
    problem: str


def understood(experiment: Experiment, schema: Schema, path: Path) -> Understood:
    """What a file is taken for that may be trained on.

    :param experiment: the declaration.
    :param schema: of the first training.
    :param path: the file.
    :raises RequestRejected: it cannot be read.
    """
    table = read_table(path, expected=(*schema.required, experiment.label), encoding=experiment.encoding)
    _, decision = decided(experiment, table, estimators.task_of(experiment), schema)
    problem = ""
    try:
        schema.check_columns(table)
    except RequestRejected as error:
        problem = error.message
    return Understood(table.rows, seen_in(experiment, table, decision), problem)


def table_of(experiment: Experiment, rows: int, seen: Sequence[Description]) -> Iterator[str]:
    """The columns of the first data as lines of text.

    :param experiment: the declaration.
    :param rows: how many rows there are.
    :param seen: the columns.
    """
    yield f"Experiment {experiment.name!r}, label {experiment.label!r}: {rows:,} rows of first data."
    yield from lines(seen)
