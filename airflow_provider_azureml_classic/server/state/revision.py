"""Which revision a database is at, told without Alembic: its 11 MB would stay in a server that upgrades nothing."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

MIGRATIONS = Path(__file__).with_name("migrations")


def newest() -> str:
    """The last revision of this version: files in ``migrations/versions`` begin with their revision, in order."""
    return max(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def is_current(engine: sa.Engine) -> bool:
    """Whether a database has the schema of this version.

    :param engine: of the database.
    """
    version = sa.table("alembic_version", sa.column("version_num"))
    with engine.connect() as connection:
        if not sa.inspect(connection).has_table(version.name):
            return False
        return connection.scalars(sa.select(version.c.version_num)).all() == [newest()]
