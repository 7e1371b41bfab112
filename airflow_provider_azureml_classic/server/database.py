"""The database connection: transactions, encryption of secrets, and rows as dataclasses."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, TypeVar

import sqlalchemy as sa
from cryptography.fernet import Fernet

from airflow_provider_azureml_classic.server.tables import metadata

R = TypeVar("R")


class Database:
    """An engine and a cipher.

    :param url: SQLAlchemy URL.
    :param cipher_key: Fernet key.
    """

    def __init__(self, url: str, cipher_key: str) -> None:
        self._cipher = Fernet(cipher_key)
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _set_pragmas)
        metadata.create_all(self._engine)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """A transaction."""
        return self._engine.begin()

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A connection to read from."""
        return self._engine.connect()

    def lock(self, text: str) -> bytes:
        """Encrypt."""
        return self._cipher.encrypt(text.encode())

    def unlock(self, token: bytes) -> str:
        """Decrypt."""
        return self._cipher.decrypt(token).decode()

    def lock_json(self, data: Any) -> bytes:
        """Encrypt what :func:`json.dumps` takes."""
        return self.lock(json.dumps(data))

    def unlock_json(self, token: bytes | None) -> Any:
        """Decrypt JSON; ``None`` stays ``None``."""
        return json.loads(self.unlock(token)) if token is not None else None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def _set_pragmas(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    # WAL: readers never wait for a writer. FULL: what was answered survives a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def to_row(kind: type[R], row: sa.RowMapping, **changed: Any) -> R:
    """The dataclass of a row.

    :param kind: its class; members that the row lacks come from ``changed``.
    :param row: what was read.
    :param changed: members to put in place of the row's.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in row.items() if name in names}, **changed})


def columns(row: Any) -> dict[str, Any]:
    """Column values of a row's dataclass, one level deep."""
    return {field.name: getattr(row, field.name) for field in fields(row)}
