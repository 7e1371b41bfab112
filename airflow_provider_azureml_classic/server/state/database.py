"""The database connection: transactions, encryption of secrets, rows as dataclasses, and a circuit breaker.

Rule: a database that does not answer costs each caller little: one call waits for it, the others fail at once.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from airflow_provider_azureml_classic.exceptions import CODES, Detail, ServiceUnavailable, rejection
from airflow_provider_azureml_classic.server.state.cipher import Cipher
from airflow_provider_azureml_classic.server.state.engine import (
    SLOW_TIMEOUT,
    UPGRADE_TIMEOUT,
    is_silent,
    make_engine,
    snapshots,
    where,
)
from airflow_provider_azureml_classic.server.state.revision import is_current

log = logging.getLogger(__name__)

_SILENT = "The database does not answer; try again in a moment."
R = TypeVar("R")
_DOWN = "NoMoreResources"
#: A file of SQLite up to so many bytes is checked at a start, which takes a second.
_CHECKED = 256 << 20
#: How long a writer waits for the others of this process, in seconds.
_TURN_SECONDS = 30.0
#: Of PostgreSQL's notifications, those of changes.
CHANNEL = "azureml_classic"
#: Messages there, besides ids of endpoints: that any may have changed, and that a job waits.
EVERYTHING, JOBS = "endpoints", "jobs"
#: Seconds between two calls that find out whether a silent database answers again.
TRIAL_SECONDS = 1.0
#: Seconds between two questions of a server that waits for others.
_POLL_SECONDS = 0.5


class DatabaseDown(ServiceUnavailable):
    """The database does not answer, or not in time; nothing is wrong with the request."""


class DatabaseDamaged(ServiceUnavailable):
    """A value of the database cannot be read: unlike :class:`DatabaseDown` it is not for who can wait."""


class Database:
    """An engine and a cipher.

    :param url: SQLAlchemy URL.
    :param cipher_key: 32 bytes in URL-safe Base64.
    :raises OSError: the database does not answer; the message says which, and why.
    :raises ValueError: it is of a newer version of this package.
    """

    def __init__(self, url: str, cipher_key: str) -> None:
        self._cipher = Cipher(cipher_key)
        self._turn = threading.Lock()
        self._engine = make_engine(url)
        self._reader = snapshots(self._engine)
        self._slow = make_engine(url, answer_timeout=SLOW_TIMEOUT) if self.shared else self._engine
        self._breaker = CircuitBreaker()
        try:
            if not self.shared:
                _check_pages(self._engine)
            if not is_current(self._engine):
                # Alembic's 11 MB would stay in a server that upgrades nothing.
                from airflow_provider_azureml_classic.server.state.schema import upgrade

                upgrade(make_engine(url, answer_timeout=UPGRADE_TIMEOUT) if self.shared else self._engine)
        except sa.exc.DBAPIError as error:
            self.close()
            address, reason = where(self._engine.url), _reason(error)
            what = "that it runs, and that this server may connect to it" if self.shared else "its files and their disk"
            raise ConnectionError(f"the database {address} cannot be used: {reason}. Check {what}") from None

    @property
    def shared(self) -> bool:
        """Whether several servers may use it at the same time."""
        return self._engine.dialect.name == "postgresql"

    @property
    def engine(self) -> sa.Engine:
        """The engine itself, for who needs a connection of his own."""
        return self._engine

    @contextmanager
    def write(self, *, slow: bool = False) -> Iterator[sa.Connection]:
        """A transaction.

        :param slow: it reads or changes very much.
        :raises DatabaseDown: whether it was committed is not known then.
        """
        with (
            self._mended(),
            self._in_turn(),
            (self._slow if slow else self._engine).begin() as connection,
        ):
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        """SQLite has one writer at a time, and lets the others sleep for up to 0.1 s each time they find it busy."""
        if self.shared:
            yield
            return
        if not self._turn.acquire(timeout=_TURN_SECONDS):
            raise _down()
        try:
            yield
        finally:
            self._turn.release()

    @contextmanager
    def read(self, *, slow: bool = False) -> Iterator[sa.Connection]:
        """A connection to read from; all that is read in one block is of one state.

        :param slow: it reads or changes very much.
        :raises DatabaseDown: nothing can be read; ``DatabaseDamaged``: not what is there, see :func:`readable`.
        """
        with self._mended(), (snapshots(self._slow) if slow else self._reader).connect() as connection:
            try:
                with readable():
                    yield connection
            except DatabaseDamaged:
                # Its cursor is in the middle of a result: SQLite would go on to show the next one the same old state.
                connection.invalidate()
                raise

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Errors of the database as the service's own; at once while the breaker is open."""
        if not self._breaker.allows():
            raise _down()
        try:
            yield
        except _TROUBLES as error:
            log.error("the database: %s", _reason(error))
            if is_silent(error):
                self._breaker.open()
            raise _down(_explained(error)) from None
        except sa.exc.DataError as error:
            # PostgreSQL is stricter than SQLite: no NUL in a text, no number beyond its type.
            message = f"A value of the request cannot be stored: {_reason(error)}."
            raise rejection("BadParameterValue", message) from None
        except sa.exc.DatabaseError as error:
            # SQLite says of a damaged file neither of the above, PostgreSQL not of one that lacks a table.
            if type(error) is not sa.exc.DatabaseError and not any(sign in _reason(error) for sign in _LACKING):
                raise
            log.error("the database: %s", _reason(error))
            raise _down(_explained(error)) from None
        self._breaker.close()

    def notify(self, connection: sa.Connection, message: str) -> None:
        """Let the other servers know of a change, once it is committed.

        :param connection: of the transaction.
        :param message: for :class:`.peers.Peers`.
        """
        if self.shared:
            connection.execute(sa.select(sa.func.pg_notify(CHANNEL, message)))

    @contextmanager
    def exclusive(self, lock: int) -> Iterator[None]:
        """One server at a time; the only server of a SQLite database waits for nobody.

        :param lock: number of an advisory lock.
        """
        with self._trying(lock) as attempt:
            # Asked for again and again: one long wait could not be told from a database that says nothing.
            while not attempt():
                time.sleep(_POLL_SECONDS)
            yield

    @contextmanager
    def attempt(self, lock: int) -> Iterator[bool]:
        """Whether no other server does the same in this moment; then none begins it in the block either.

        :param lock: number of an advisory lock.
        """
        with self._trying(lock) as attempt:
            yield attempt()

    @contextmanager
    def _trying(self, lock: int) -> Iterator[Callable[[], bool]]:
        """What takes an advisory lock, if it is free; a transaction holds it, so that it ends with its server."""
        if not self.shared:
            yield lambda: True
            return
        with self.write() as connection:
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield lambda: bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(lock))).scalar())

    def hold(self, connection: sa.Connection, lock: int, *, alone: bool) -> None:
        """Hold an advisory lock until the transaction ends; SQLite has one writer at a time anyway.

        :param connection: of the transaction.
        :param lock: number of the lock.
        :param alone: ``False`` lets others hold it too that are not alone.
        """
        if self.shared:
            take = sa.func.pg_advisory_xact_lock if alone else sa.func.pg_advisory_xact_lock_shared
            connection.execute(sa.select(take(lock)))

    def encrypt(self, text: str) -> bytes:
        """Encrypt."""
        return self._cipher.encrypt(text.encode())

    def decrypt(self, token: bytes) -> str:
        """Decrypt."""
        return self._cipher.decrypt(token).decode()

    def encrypt_packed(self, data: Any) -> bytes:
        """Compress and encrypt what :func:`json.dumps` takes."""
        return self._cipher.encrypt(zlib.compress(json.dumps(data).encode(), 3))

    def decrypt_packed(self, token: bytes) -> Any:
        """What :meth:`encrypt_packed` was given."""
        return json.loads(zlib.decompress(self._cipher.decrypt(token)))

    def encrypt_json(self, data: Any) -> bytes:
        """Encrypt what :func:`json.dumps` takes."""
        return self.encrypt(json.dumps(data))

    def decrypt_json(self, token: bytes | None) -> Any:
        """Decrypt JSON; ``None`` stays ``None``."""
        return json.loads(self._cipher.decrypt(token)) if token is not None else None

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._slow.dispose()


def _check_pages(engine: sa.Engine) -> None:
    """Refuse a damaged file of SQLite before anything is read from it or written to it."""
    path = Path(engine.url.database or "")
    if not path.is_file() or path.stat().st_size > _CHECKED:
        return
    try:
        with engine.connect() as connection:
            result = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
    except sa.exc.OperationalError:
        raise
    except sa.exc.DatabaseError as error:
        result = _reason(error)
    if result != "ok":
        raise ValueError(f"The database {path} is damaged: {result}. Restore a backup of it.")


#: What SQLite, PostgreSQL and the system say, in lower case -> what callers are told.
_EXPLAINED = {
    "disk is full": "The disk of the database is full. Nothing was changed; make room, then try again.",
    "no space left": "The disk of the database is full. Nothing was changed; make room, then try again.",
    "readonly database": "The database cannot be written: its file or its disk is read-only. Nothing was changed.",
    "read-only transaction": "The database cannot be written: it is read-only. Nothing was changed.",
    "malformed": "The database is damaged. Stop the server and restore a backup.",
    "not a database": "The database is damaged. Stop the server and restore a backup.",
    "disk i/o error": "The disk of the database cannot be read or written.",
    **dict.fromkeys(
        _LACKING := ("no such table", "no such column", "has no column named", "does not exist"),
        "The database lacks a table or a column: somebody has changed it. Stop the server and restore a backup.",
    ),
}
_TROUBLES = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.InternalError, sa.exc.TimeoutError)


def _explained(error: sa.exc.SQLAlchemyError) -> str:
    reason = _reason(error).lower()
    return next((text for sign, text in _EXPLAINED.items() if sign in reason), _SILENT)


#: What is raised where a value is read that nobody of ours has written.
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, zlib.error)


@contextmanager
def readable(what: str = "A row") -> Iterator[None]:
    """Tell values that cannot be read as what they are: a bit that flipped, or somebody's change.

    :param what: at the beginning of the sentence.
    :raises DatabaseDamaged: one cannot be read; the log has the reason.
    """
    try:
        yield
    except UnicodeEncodeError:
        # Of what is asked for, not of what is there.
        raise
    except DAMAGED as error:
        log.exception("%s of the database cannot be read", what)
        text = f"{what} of the database cannot be read: it is damaged, or somebody has changed it. Restore a backup."
        raise _down(text, DatabaseDamaged) from error


def _down(message: str = _SILENT, kind: type[ServiceUnavailable] = DatabaseDown) -> ServiceUnavailable:
    code, status = CODES[_DOWN]
    return kind(message, code=code, details=(Detail(_DOWN, message),), status=status)


def _reason(error: sa.exc.SQLAlchemyError) -> str:
    """What went wrong, without the statement and its values."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()).rstrip(".") or type(original).__name__


def to_row(kind: type[R], row: sa.RowMapping, **changed: Any) -> R:
    """The dataclass of a row.

    :param kind: its class; members that the row lacks come from ``changed``.
    :param row: what was read.
    :param changed: members to put in place of the row's.
    """
    names = _names(kind)  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in row.items() if name in names}, **changed})


@cache
def _names(kind: type[Any]) -> frozenset[str]:
    return frozenset(field.name for field in fields(kind))


def columns(row: Any) -> dict[str, Any]:
    """Column values of a row's dataclass, one level deep."""
    return {field.name: getattr(row, field.name) for field in fields(row)}


class CircuitBreaker:
    """Circuit breaker: after a call that was not answered in time, one call a second tries; the others fail at once.

    Safe to be used by several threads.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next_trial: float | None = None

    def open(self) -> None:
        """It did not answer in time."""
        with self._lock:
            self._next_trial = time.monotonic() + TRIAL_SECONDS

    def close(self) -> None:
        """It has answered."""
        self._next_trial = None

    def allows(self) -> bool:
        """Whether it may be asked now."""
        if self._next_trial is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._next_trial is not None and now < self._next_trial:
                return False
            self._next_trial = now + TRIAL_SECONDS
            return True
