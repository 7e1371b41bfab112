"""Engines of SQLAlchemy: which database is meant, and how each kind is spoken to."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.server.folders import check_file

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.server.state.postgres import Connection

DATABASE_VARIABLE = "AZUREML_CLASSIC_DATABASE"
_DIALECT = "postgresql.limited"
sa.dialects.registry.register(_DIALECT, "airflow_provider_azureml_classic.server.state.postgres", "Dialect")
_FORM = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
#: A server that does not answer for so long is taken for gone.
_TIMEOUT_SECONDS = 5
#: Connections of one server to PostgreSQL, whose default limit is 100.
_POOL = {"pool_size": 5, "max_overflow": 15, "pool_timeout": 5, "pool_pre_ping": True}
#: Seconds without a word that are allowed to statements that read or change very much, and to changes of tables.
SLOW_TIMEOUT, UPGRADE_TIMEOUT = 60.0, 600.0
#: SQLite: who reads never waits for a connection, even if every thread waits to write.
_FILE_POOL = {"pool_size": 5, "max_overflow": 60, "pool_timeout": 5}


def checked_url(text: str) -> str:
    """The SQLAlchemy URL of a PostgreSQL database; no message shows any of it but the scheme.

    :param text: as the user wrote it.
    :raises ValueError: it is none, or the driver is not installed.
    """
    try:
        url = sa.make_url(text.strip())
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(f"The database must be {_FORM}; the given text is not such a URL.") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(f"The database must be {_FORM}; {url.drivername!r} is not supported.")
    if not url.database:
        raise ValueError(f"The database must be {_FORM}; the name of the database is missing.")
    if importlib.util.find_spec("psycopg") is None:
        raise ValueError(
            "psycopg is missing. Install the package with its extra: pip install '.[server,postgres]' in its folder."
        )
    return url.set(drivername=_DIALECT.replace(".", "+")).render_as_string(hide_password=False)


def make_engine(address: str, *, answer_timeout: float | None = None) -> sa.Engine:
    """An engine.

    :param address: SQLAlchemy URL of SQLite or PostgreSQL.
    :param answer_timeout: seconds without a word that are allowed, if they are more than usual; for rare statements.
    """
    url = sa.make_url(address)
    if url.get_backend_name() == "sqlite":
        # In memory it has a pool of another kind.
        engine = sa.create_engine(url, hide_parameters=True, **(_FILE_POOL if url.database else {}))
        sa.event.listen(engine, "do_connect", _check_files)
        sa.event.listen(engine, "connect", _set_up_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return engine
    arguments = connect_arguments(url)
    if answer_timeout is not None:
        arguments |= {"answer_timeout": answer_timeout}
        return sa.create_engine(url, hide_parameters=True, connect_args=arguments, poolclass=sa.NullPool)
    return sa.create_engine(url, hide_parameters=True, connect_args=arguments, **_POOL)


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """Parameters of libpq that the URL does not set itself: nothing waits long for a server that is gone.

    :param url: of the database.
    """
    options = {
        "connect_timeout": _TIMEOUT_SECONDS,
        "tcp_user_timeout": _TIMEOUT_SECONDS * 1000,
        "keepalives_idle": _TIMEOUT_SECONDS,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": "azureml-classic-server",
    }
    return {name: value for name, value in options.items() if name not in url.query}


def snapshots(engine: sa.Engine) -> sa.Engine:
    """The engine for transactions that only read: all of one see one state.

    :param engine: of the same database.
    """
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ")
    return engine.execution_options(begin="BEGIN DEFERRED")


def is_silent(error: sa.exc.SQLAlchemyError) -> bool:
    """Whether the database let somebody wait until he gave up, which the next one would do as well.

    :param error: of a call.
    """
    original = getattr(error, "orig", None)
    if original is None or type(original).__module__.startswith("sqlite3"):
        return False
    # Neither is there without the extra "postgres".
    import psycopg

    # As above.
    from airflow_provider_azureml_classic.server.state.postgres import Silent

    return isinstance(original, Silent | psycopg.errors.ConnectionTimeout)


def where(url: sa.URL) -> str:
    """What a message may say of a database: no user, password or option.

    :param url: of the database.
    """
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"{url.host or url.query.get('host') or 'localhost'}{port}/{url.database}"


def _check_files(dialect: object, record: object, arguments: Sequence[str], options: object) -> None:
    check_database(arguments[0])


def check_database(path: str | Path) -> None:
    """Refuse files for which SQLite would wait without an end: a FIFO in the place of one of its own.

    :param path: of the database.
    :raises sqlite3.OperationalError: there is one.
    """
    for ending in ("", "-wal", "-shm", "-journal"):
        try:
            check_file(Path(f"{path}{ending}"))
        except OSError as error:
            raise sqlite3.OperationalError(f"{error.strerror}: {error.filename}") from None


def _set_up_sqlite(connection: Any, record: object) -> None:
    # The driver's own transactions begin too late: reads and changes of tables would be outside.
    connection.isolation_level = None
    cursor = connection.cursor()
    # WAL: readers never wait for a writer. FULL: what was answered survives a power cut.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer that has read first could not become one while another writes, so it is one from the beginning.
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN IMMEDIATE"))


def new_listener(engine: sa.Engine) -> Connection:
    """A connection of its own for notifications of PostgreSQL.

    :param engine: of the database.
    :raises psycopg.Error: it does not answer.
    """
    # psycopg is not there without the extra "postgres".
    from airflow_provider_azureml_classic.server.state.postgres import connected

    arguments, options = engine.dialect.create_connect_args(engine.url)
    options = {**options, **connect_arguments(engine.url)}
    connection = connected(*arguments, **options)
    connection.autocommit = True
    return connection
