"""Copies of a data directory that fit together, made while the server runs, and put back.

Rule 1: the database is copied first, at one moment, by SQLite's own means; then the model files. A model that the copy
names is still there: removed files wait a day.
Rule 2: every file's SHA-256 stands in the backup, and nothing is put back that is not what it was.
Rule 3: a backup, or a restored directory, is there whole or not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.server.blobs.files import files_below
from airflow_provider_azureml_classic.server.blobs.store import BLOCKS_FOLDER, TEMPORARY_FOLDER
from airflow_provider_azureml_classic.server.folders import (
    LOCK,
    copy_file,
    file_digest,
    make_folder,
    move,
    read_file,
    sync,
)
from airflow_provider_azureml_classic.server.models.pair import MODELS_FOLDER, REMEMBERED
from airflow_provider_azureml_classic.server.models.store import TRASH
from airflow_provider_azureml_classic.server.state.engine import check_database

CONTENTS, DATABASE, SECRETS, BLOBS = "backup.json", "state.db", "secrets.json", "blobs"
COMMANDS = ("backup", "restore")
_POSTGRES = (
    "The database is not in the data directory: it is PostgreSQL. Back it up first, with pg_dump --format=custom, and "
    "then the directory with --without-database. To restore, pg_restore it, restore the directory, and start the "
    "server with --database."
)

#: How often the folders of models are read while one is lacking.
_PASSES = 10
#: Bytes of a list of contents, about a million files.
_MOST_CONTENTS = 256 << 20


def parser() -> argparse.ArgumentParser:
    """The arguments of both commands."""
    options = argparse.ArgumentParser(prog="azureml-classic-server", description=__doc__.splitlines()[0])
    commands = options.add_subparsers(dest="command", required=True)
    for name, meaning in zip(
        COMMANDS, ("copy the data directory, while the server runs", "put a copy back"), strict=True
    ):
        command = commands.add_parser(name, help=meaning, description=meaning)
        command.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="the server's data directory")
        command.add_argument("backup", type=Path, metavar="BACKUP", help="folder of the copy")
        if name == "backup":
            command.add_argument(
                "--without-blobs", action="store_true", help="leave out data, models and outputs of jobs"
            )
            command.add_argument("--without-database", action="store_true", help="the database is PostgreSQL")
    return options


def main(argv: Sequence[str]) -> str:
    """Carry out one of the commands; returns what to tell.

    :param argv: its arguments.
    :raises ValueError: it cannot be done, and nothing was changed; the message says why.
    :raises OSError: likewise.
    """
    arguments = parser().parse_args(argv)
    if arguments.command == "restore":
        return restore(arguments.backup, arguments.data_dir)
    return back_up(
        arguments.data_dir, arguments.backup, blobs=not arguments.without_blobs, database=not arguments.without_database
    )


def back_up(data_dir: Path, target: Path, *, blobs: bool = True, database: bool = True) -> str:
    """Copy a data directory whose server may run.

    :param data_dir: the data directory.
    :param target: folder of the copy, not there yet.
    :param blobs: copy the own store, too.
    :param database: it is in the directory; otherwise it is left out.
    :returns: what was done.
    :raises ValueError: there is no database, or a model in place is missing or damaged.
    """
    _check_directory(data_dir, database)
    _check_apart(target, data_dir)
    with _made(target) as folder:
        named = _copy_database(data_dir / DATABASE, folder / DATABASE) if database else set()
        models = _copy_models(data_dir / MODELS_FOLDER, folder / MODELS_FOLDER, named)
        lacking = sorted(named - models)
        if lacking:
            raise ValueError(
                f"{len(lacking)} of {len(named)} models in place are missing or damaged in {data_dir / MODELS_FOLDER}, "
                f"the first is {lacking[0]}. Mend them first: with the workspace token, /readyz names them; a PATCH "
                "with the model does it."
            )
        for name in (SECRETS, REMEMBERED):
            if (data_dir / name).exists():
                copy_file(data_dir / name, folder / name)
        if blobs:
            _copy_tree(data_dir / BLOBS, folder / BLOBS)
        files = {str(path.relative_to(folder)): file_digest(path) for path in _files(folder)}
        (folder / CONTENTS).write_text(json.dumps({"version": __version__, "files": files}, indent=1))
    return f"{target} has {len(models)} models, {len(files)} files in all, and every key: keep it under lock."


def _check_directory(data_dir: Path, database: bool) -> None:
    """Refuse what is not a data directory, or lacks its database."""
    known = (DATABASE, LOCK, SECRETS, REMEMBERED)
    if not any((data_dir / name).is_file() for name in known):
        what = "has no data of a server in it" if data_dir.is_dir() else "is not a folder"
        below = data_dir / "data"
        hint = f" Is it {below}?" if (below / LOCK).is_file() else ""
        raise ValueError(f"{data_dir} {what}. Name the folder that the server was started with, its --data-dir.{hint}")
    if database and not (data_dir / DATABASE).exists():
        raise ValueError(f"{data_dir} has no {DATABASE}. {_POSTGRES}")


def _check_apart(target: Path, source: Path) -> None:
    """Refuse to copy a folder into itself.

    :raises ValueError: that is meant.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise ValueError(f"{target} is within {source}. Name a folder outside it.")


def restore(source: Path, data_dir: Path) -> str:
    """Put a backup back.

    :param source: folder of the copy.
    :param data_dir: not there yet, or empty.
    :returns: what was done.
    :raises ValueError: the backup is damaged, or the directory is used.
    """
    files = _contents(source)
    _check_apart(data_dir, source)
    damaged = [
        name for name, digest in files.items() if not (source / name).is_file() or file_digest(source / name) != digest
    ]
    if damaged:
        raise ValueError(f"{len(damaged)} files of {source} are missing or damaged, the first is {damaged[0]}.")
    with _made(data_dir) as folder:
        for name in files:
            make_folder((folder / name).parent)
            copy_file(source / name, folder / name)
    note = "" if DATABASE in files else f" {_POSTGRES}"
    return f"{data_dir} has the {len(files)} files of {source}. Start the server with it.{note}"


def _contents(source: Path) -> Mapping[str, str]:
    try:
        files = read_json(read_file(source / CONTENTS, _MOST_CONTENTS))["files"]
        names = {str(name): str(digest) for name, digest in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        what = f"its {CONTENTS} is missing or damaged" if source.is_dir() else "it is not a folder"
        raise ValueError(f"{source} is no backup: {what}.") from None
    for name in names:
        # Its writer may be anybody: no file outside the directory is written.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{source} is no backup: it names the file {name!r}.")
    return names


@contextmanager
def _made(target: Path) -> Iterator[Path]:
    """A folder that gets its name when the block has ended well."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already, and not empty. Name another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
        for path in _files(folder):
            path.chmod(0o600)
            sync(path)
        for inner, _, _ in os.walk(folder):
            sync(Path(inner))
        move(folder, target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_database(source: Path, target: Path) -> set[str]:
    """Copy it as it is at one moment; returns the digests of the models in place."""
    try:
        check_database(source)
        with (
            closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as reader,
            closing(sqlite3.connect(target)) as writer,
        ):
            # In one step, so that a busy server does not make it begin anew for ever.
            reader.backup(writer)
            writer.execute("PRAGMA journal_mode=DELETE")
            state = writer.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if state != "ok":
                raise ValueError(f"The database {source} is damaged: {state}. Use an older backup.")
            return {digest for (digest,) in writer.execute("SELECT DISTINCT digest FROM resources")}
    except sqlite3.Error as error:
        raise ValueError(f"The database {source} cannot be copied: {cause(error)}.") from None


def _copy_models(source: Path, target: Path, named: set[str]) -> set[str]:
    """Copy the model files that are whole, those that wait in the trash among them; returns their digests.

    A model may go to the trash while the folders are read, or come back: whoever is looked for in one may be in the
    other by then. So both are read again while a model is lacking that the database names.
    """
    target.mkdir(mode=0o700)
    digests: set[str] = set()
    for _ in range(_PASSES):
        for path in (path for folder in (source, source / TRASH) for path in folder.glob(f"*{MODEL_EXTENSION}")):
            if path.stem not in digests and _copied(path, target / path.name):
                digests.add(path.stem)
        if named <= digests:
            break
    return digests


def _copied(path: Path, copy: Path) -> bool:
    """Copy a model file, if it is there and whole; whether it was. A folder may lie where one belongs."""
    with suppress(FileNotFoundError, IsADirectoryError):
        copy_file(path, copy)
        if file_digest(copy) == path.stem:
            return True
        copy.unlink()
    return False


def _copy_tree(source: Path, target: Path) -> None:
    for path in _files(source):
        name = path.relative_to(source)
        # Only there is something half written; a blob may be called anything.
        if name.parts[0] in (TEMPORARY_FOLDER, BLOCKS_FOLDER):
            continue
        make_folder((target / name).parent)
        # A blob may be deleted meanwhile.
        with suppress(FileNotFoundError):
            copy_file(path, target / name)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in files_below(folder) if path.is_file())
