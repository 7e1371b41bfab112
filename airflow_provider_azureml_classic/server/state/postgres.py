"""PostgreSQL as the server speaks to it: no wait is without end, and what a lost server held is given up.

Nothing that the database or the kernel can be told helps against a connection that is acknowledged and never answered,
as behind a proxy whose other side is gone: so the limit is where the socket is waited for.
"""

from __future__ import annotations

import time
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

R = TypeVar("R")

#: A statement of a call or of the background is given up after this time without a word.
ANSWER_SECONDS = 8.0
#: The same for the question whether a pooled connection is still good; if not, there is a new one.
_PING_SECONDS = 3.0
#: Of a session. PostgreSQL ends a statement before its client gives up, so that it does not go on for nobody; finds
#: out that a machine has vanished, and then gives up its locks.
_SESSION = {
    "statement_timeout": int(ANSWER_SECONDS * 1000) - 1000,
    "lock_timeout": 5000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 3,
}
#: What reads or changes very much may take as long as it needs.
_UNLIMITED = {"statement_timeout": 0, "lock_timeout": 0}


class Silent(psycopg.OperationalError):
    """The database accepts what it is sent, and says nothing."""


class Connection(psycopg.Connection[Any]):
    """A connection that does not wait for ever; one that was given up is closed."""

    #: Longest time without a word.
    answer_timeout = ANSWER_SECONDS

    def wait(self, gen: PQGen[R], *arguments: Any, **options: Any) -> R:
        """See the base class; all that is read or written passes through here.

        :raises Silent: nothing came, or could be sent, in time.
        """
        return super().wait(self._limited(gen), *arguments, **options)

    def _limited(self, gen: PQGen[R]) -> PQGen[R]:
        deadline = time.monotonic() + self.answer_timeout
        ready: Any = None
        while True:
            try:
                state = gen.send(ready)
            except StopIteration as end:
                result: R = end.value
                return result
            # Nothing of it: the driver looks now and then whether it was interrupted.
            ready = yield state
            if ready:
                deadline = time.monotonic() + self.answer_timeout
            elif time.monotonic() > deadline:
                self.pgconn.finish()
                raise Silent(f"no answer for {self.answer_timeout:g} s")


def connected(*arguments: Any, answer_timeout: float = ANSWER_SECONDS, **options: Any) -> Connection:
    """A connection whose session is set up.

    :param answer_timeout: longest time without a word; more than usual also lifts the limits of the session.
    :raises psycopg.Error: the database does not answer, or refuses.
    """
    connection = Connection.connect(*arguments, **options)
    session = _SESSION if answer_timeout == ANSWER_SECONDS else _SESSION | _UNLIMITED
    try:
        connection.execute("; ".join(f"SET {name} = {value}" for name, value in session.items()))
        connection.commit()
    except BaseException:
        connection.close()
        raise
    connection.answer_timeout = answer_timeout
    return connection


class Dialect(PGDialect_psycopg):
    """SQLAlchemy's dialect with such connections."""

    supports_statement_cache = True

    def connect(self, *arguments: Any, **options: Any) -> Any:
        """A new connection of the pool."""
        return connected(*arguments, **options)

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Whether a pooled connection is still good."""
        usual, dbapi_connection.answer_timeout = dbapi_connection.answer_timeout, _PING_SECONDS
        try:
            return bool(super().do_ping(dbapi_connection))  # type: ignore[no-untyped-call]
        finally:
            dbapi_connection.answer_timeout = usual
