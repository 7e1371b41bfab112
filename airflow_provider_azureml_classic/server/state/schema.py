"""Brings a database to the schema of this version: the revisions in ``migrations/versions``, in one transaction.

Rule 1: a database of a newer version is left alone.
Rule 2: of servers that start at once, one upgrades and the others wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from airflow_provider_azureml_classic.exceptions import cause
from airflow_provider_azureml_classic.server.state.engine import make_engine
from airflow_provider_azureml_classic.server.state.revision import MIGRATIONS

log = logging.getLogger(__name__)

#: The schema of databases that were made before there were revisions.
FIRST = "0001"
#: Of PostgreSQL's advisory locks, the one that an upgrade holds: any number that nobody else uses.
UPGRADE_LOCK = 0x617A6D6C01


def configuration(connection: sa.Connection | None = None) -> Config:
    """What Alembic's commands take.

    :param connection: to work on.
    """
    # "%" would be read as the beginning of a variable.
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(engine: sa.Engine) -> None:
    """Make or change the tables, all or nothing.

    :param engine: of the database.
    :raises ValueError: the database is of a newer version, or what it says of its own is damaged; the message says what
        to do.
    """
    try:
        _upgrade(engine)
    except CommandError as error:
        raise ValueError(
            f"The database does not say which version it is of: {cause(error)}. Restore a backup."
        ) from None


def _upgrade(engine: sa.Engine) -> None:
    with engine.connect() as connection, _locked(connection):
        config = configuration(connection)
        scripts = ScriptDirectory.from_config(config)
        revisions, head = {script.revision for script in scripts.walk_revisions()}, scripts.get_current_head()
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None and revision not in revisions:
            raise ValueError(
                f"The database is at revision {revision}; this version of the package knows those up to {head}. A "
                "newer version has used the database: install that one, or restore a backup."
            )
        if revision is None and sa.inspect(connection).has_table("endpoints"):
            command.stamp(config, FIRST)
        if revision != head:
            command.upgrade(config, "head")
            log.info("the database is at revision %s now; it was at %s", head, revision or "none")


@contextmanager
def _locked(connection: sa.Connection) -> Iterator[None]:
    """A transaction that no other upgrade runs beside; committed if the block ends without an error."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        yield
        connection.commit()
        return
    # A table that is copied is dropped, which would delete the rows that refer to it; the setting cannot be changed
    # in a transaction, so it goes to the driver.
    driver = connection.connection.driver_connection
    assert driver is not None  # noqa: S101 - for the type
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken:
            raise ValueError(
                f"The upgrade of the database would leave rows of {broken[0]!r} without what they refer to."
            )
        connection.commit()
    finally:
        connection.rollback()
        driver.execute("PRAGMA foreign_keys=ON")


def new_revision(message: str) -> None:
    """Write the next revision: what ``tables.py`` has and the present revisions do not; to be read before it is kept.

    :param message: what it changes, in a few words.
    """
    engine = make_engine("sqlite://")
    upgrade(engine)
    with engine.connect() as connection:
        config = configuration(connection)
        head = ScriptDirectory.from_config(config).get_current_head() or "0"
        command.revision(config, message, autogenerate=True, rev_id=f"{int(head) + 1:04}")
