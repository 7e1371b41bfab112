"""Training data from a PostgreSQL, through Airflow's own hook: the rows stay with the database until they are sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from airflow_provider_azureml_classic.operators import UploadDataOperator
from tests.support import ServerProcess
from tests.support.postgres import cluster
from tests.support.tasks import context

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("airflow_connection")]
ROWS = 50_000
#: Each row that the database makes raises the sequence by one, whatever becomes of the transaction.
QUERY = "SELECT n AS day, nextval('made') AS number, 'Zürich, \"ZH\"' AS place FROM generate_series(1, %(rows)s) AS n"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty database, which is the connection ``warehouse``."""
    with cluster() as made:
        url = made.new_database()
        parts = urlsplit(url)
        said = {"conn_type": "postgres", "host": parts.hostname, "port": parts.port, "schema": parts.path[1:]}
        said |= {"login": parts.username, "password": parts.password}
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(said))
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE SEQUENCE made")
        yield url


def upload(path: str) -> UploadDataOperator:
    """The task."""
    return UploadDataOperator(
        task_id="upload", destination=path, sql=QUERY, sql_conn_id="warehouse", sql_parameters={"rows": ROWS}
    )


def made(url: str) -> int:
    """How many rows the database has made."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT last_value FROM made").fetchone()
    assert row is not None
    return int(row[0])


def test_rows_are_streamed(server: ServerProcess, database: str) -> None:
    """All rows arrive; and of an upload that ends early the database has made only those of the first batch."""
    pieces = upload("postgres/part.csv")._from_query()
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert 0 < made(database) <= 2 * 2_000
    found = upload("postgres/whole.csv").execute(context())
    assert found["rows"] == ROWS
    with server.client() as client:
        lines = client.fetch_blob(server.sas("postgres/whole.csv")).decode().splitlines()
    assert lines[0] == "day,number,place"
    assert lines[1].startswith("1,")
    assert lines[1].endswith(',"Zürich, ""ZH"""')
    assert len(lines) == ROWS + 1
