"""Sessions of browsers that were signed out before they would have expired: of all servers, and after a restart."""

from __future__ import annotations

import hashlib
from datetime import datetime

import sqlalchemy as sa

from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import ended_sessions


class EndedSessions:
    """Remembers them by a digest: what is stored opens nothing.

    :param database: the state.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, session: str, until: datetime, now: datetime) -> None:
        """Remember one, and forget those that have expired.

        :param session: its id.
        :param until: when it would have expired.
        :param now: the present time.
        """
        with self._db.write() as connection:
            connection.execute(sa.delete(ended_sessions).where(ended_sessions.c.until < now))
            # Twice signed out is signed out.
            connection.execute(sa.delete(ended_sessions).where(ended_sessions.c.digest == _digest(session)))
            connection.execute(sa.insert(ended_sessions).values(digest=_digest(session), until=until))

    def has(self, session: str) -> bool:
        """Whether one was signed out.

        :param session: its id.
        """
        query = sa.select(ended_sessions.c.digest).where(ended_sessions.c.digest == _digest(session))
        with self._db.read() as connection:
            return connection.execute(query).first() is not None


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()
