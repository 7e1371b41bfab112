"""The audit list in the database."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.audit import AuditEntry
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import audit


class AuditStore:
    """Entries by their numbers.

    :param database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, values: Mapping[str, Any]) -> int:
        """Write an entry; its number.

        :param values: by column.
        """
        with self._db.write() as connection:
            number: int = connection.execute(sa.insert(audit).values(**values).returning(audit.c.number)).scalar_one()
        return number

    def end(self, number: int, status: int) -> None:
        """Say what came of an operation.

        :param number: of its entry.
        :param status: of its answer.
        """
        with self._db.write() as connection:
            connection.execute(sa.update(audit).where(audit.c.number == number).values(status=status))

    def forget(self, before: datetime, most: int) -> None:
        """Remove what is too old, and what is too much.

        :param before: when the oldest that stays may have begun.
        :param most: entries that stay at most.
        """
        last = sa.select(sa.func.max(audit.c.number)).scalar_subquery()
        with self._db.write(slow=True) as connection:
            connection.execute(sa.delete(audit).where(sa.or_(audit.c.at < before, audit.c.number <= last - most)))

    def page(self, limit: int, before: int | None) -> list[AuditEntry]:
        """Entries, the last one first.

        :param limit: the most that are wanted.
        :param before: of these numbers and lower ones; ``None``: from the last.
        """
        query = sa.select(audit).order_by(audit.c.number.desc()).limit(limit)
        if before is not None:
            query = query.where(audit.c.number < before)
        with self._db.read() as connection:
            return [AuditEntry(**row) for row in connection.execute(query).mappings()]
