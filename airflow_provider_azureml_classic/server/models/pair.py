"""A database and a data directory that belong together: each endpoint of the one has its model in the other.

Rule 1: a database has an id and its directories remember it. Where they differ, the server does not start.
Rule 2: a directory that remembers none becomes a database's if every model that its endpoints have is there, and none
that nobody knows.
Rule 3: nothing is removed from a directory while it is not certain that it is still the one, and the database, too.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.server.folders import LOCK, read_file, write_private
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.engine import where
from airflow_provider_azureml_classic.server.state.tables import endpoints, identity, resources

log = logging.getLogger(__name__)

#: What a directory remembers of its database, and where it has its models.
REMEMBERED, MODELS_FOLDER = "database.json", "models"
_ADOPT = "If they belong together all the same, start once with --adopt."


def check_database_file(data_dir: Path, url: str) -> None:
    """Refuse to make a new database of SQLite where there was one.

    :param data_dir: the data directory.
    :param url: SQLAlchemy URL of its database.
    :raises ValueError: the message says what to look for.
    """
    address = sa.make_url(url)
    path = Path(str(address.database))
    if address.get_backend_name() != "sqlite" or (path.exists() and path.stat().st_size):
        return
    remembered = _remembered(data_dir)
    before = f"was used with the database {_named(remembered)}" if remembered else "has models"
    if remembered or any((data_dir / MODELS_FOLDER).glob(f"*{MODEL_EXTENSION}")):
        raise ValueError(
            f"{path} is missing or empty, and {data_dir} {before}. Restore the database, or name it with --database. "
            f"{_ADOPT}"
        )


class Pair:
    """The database and the data directory of a running server.

    :param database: the state.
    :param data_dir: the data directory.
    :param lock: the open file with which this process holds the directory; ``None``: nobody else can come here.
    """

    def __init__(self, database: Database, data_dir: Path, lock: TextIO | None = None) -> None:
        self._db = database
        self._data_dir = data_dir
        self._lock = lock
        self._id = self._read_id()
        self._place = where(database.engine.url)

    def settle(self, models: ModelStore, *, adopt: bool) -> None:
        """Make sure that both belong together, and remember it.

        :param models: the model files.
        :param adopt: whoever starts the server says so.
        :raises ValueError: they do not, as far as can be told; the message says what to look for.
        """
        # The storage account of the models is one of the places of this database, too.
        places = {str(self._data_dir): None if adopt else _remembered(self._data_dir)}
        if models.vault:
            places["the storage account of --storage"] = None if adopt else _read(models.vault.remembered())
        for place, remembered in places.items():
            if remembered and remembered["id"] != self._id:
                raise ValueError(
                    f"{place} was used with the database {_named(remembered)}, and this one is {self._named()}. Give "
                    f"the server that database, or what was used with this one. {_ADOPT}"
                )
        if None in places.values():
            if not adopt:
                self._check_models(models)
            text = json.dumps({"id": self._id, "database": self._place})
            write_private(self._data_dir / REMEMBERED, text)
            if models.vault:
                models.vault.remember(text)

    def _check_models(self, models: ModelStore) -> None:
        with self._db.read() as connection:
            query = sa.select(resources.c.digest, endpoints.c.name).join_from(resources, endpoints)
            named = {digest: name for digest, name in connection.execute(query)}
        there = models.everywhere()
        lacking = set(named) - there
        if lacking:
            digest = min(lacking)
            raise ValueError(
                f"{len(lacking)} of {len(named)} models of the database {self._named()} are not in {self._data_dir}: "
                f"endpoint {named[digest]!r} has {digest}. Give the directory that was used with this database with "
                f"--data-dir, or the database that was used with this directory. {_ADOPT}"
            )
        if there and not named:
            raise ValueError(
                f"{self._data_dir} has {len(there)} models, and the database {self._named()} knows no model. Give the "
                f"database that was used with this directory, or another --data-dir. {_ADOPT}"
            )

    def is_whole(self) -> bool:
        """Whether directory and database are those that the server began with; if not, the log says so."""
        try:
            remembered = _remembered(self._data_dir)
            held = self._lock is None or _is_same(self._lock, self._data_dir)
            same = remembered is not None and remembered["id"] == self._id == self._read_id()
        except (AzureMLClassicError, OSError, ValueError) as error:
            log.error("the data directory %s or its database cannot be looked at: %s", self._data_dir, error)
            return False
        if not (held and same):
            log.error(
                "the data directory %s or its database was replaced while this server runs: it removes nothing and "
                "puts nothing in place any more; restart it",
                self._data_dir,
            )
        return held and same

    def _read_id(self) -> str:
        with self._db.read() as connection:
            found: Sequence[str] = connection.execute(sa.select(identity.c.id)).scalars().all()
        if len(found) != 1:
            raise ValueError(f"The database {where(self._db.engine.url)} has no id: it is not whole. Restore a backup.")
        return found[0]

    def _named(self) -> str:
        return _named({"id": self._id, "database": self._place})


def _is_same(lock: TextIO, data_dir: Path) -> bool:
    held, there = os.fstat(lock.fileno()), (data_dir / LOCK).stat()
    return (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino)


def _remembered(data_dir: Path) -> Mapping[str, str] | None:
    path = data_dir / REMEMBERED
    try:
        return _read(read_file(path))
    except FileNotFoundError:
        return None


def _read(text: str | bytes | None) -> Mapping[str, str] | None:
    if text is None:
        return None
    try:
        data = read_json(text)
        return {"id": str(data["id"]), "database": str(data["database"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{REMEMBERED} is damaged ({error}). Restore it. {_ADOPT}") from None


def _named(database: Mapping[str, str]) -> str:
    return f"{database['database']} (id {database['id'][:8]})"
