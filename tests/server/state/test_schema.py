"""The database's schema: made by revisions, kept by upgrades, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from airflow_provider_azureml_classic.server.state import schema
from airflow_provider_azureml_classic.server.state.engine import checked_url, make_engine, where
from airflow_provider_azureml_classic.server.state.tables import metadata, placements
from tests.support.postgres import Cluster
from tests.support.service import Clock, Service

#: A revision that SQLite can only do by copying a table that others refer to.
NEXT = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9000", {head!r}


def upgrade():
    with op.batch_alter_table("endpoints") as batch:
        batch.alter_column("description", existing_type=sa.Text(), nullable=False, server_default="")
        batch.add_column(sa.Column("added", sa.Integer(), nullable=False, server_default="7"))
"""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        made = make_engine(f"sqlite:///{tmp_path / 'state.db'}")
    else:
        made = make_engine(checked_url(request.getfixturevalue("postgres").new_database()))
    yield made
    made.dispose()


def revision(engine: sa.Engine) -> str | None:
    """The revision that a database is at."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """The newest revision."""
    return str(ScriptDirectory.from_config(schema.configuration()).get_current_head())


def first_tables(engine: sa.Engine) -> None:
    """What a server made before there were revisions: the first schema, with nothing that says so."""
    with engine.begin() as connection:
        command.upgrade(schema.configuration(connection), schema.FIRST)
        connection.exec_driver_sql("DROP TABLE alembic_version")


def rows(engine: sa.Engine) -> dict[str, list[sa.RowMapping]]:
    """Every row of every table that the first schema has, whatever columns there are."""
    found = {}
    with engine.connect() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name != "alembic_version":
                read = connection.exec_driver_sql(f"SELECT * FROM {name}")  # noqa: S608
                found[name] = sorted(read.mappings(), key=str)
    return found


@pytest.mark.slow
def test_revisions_make_what_the_tables_say(engine: sa.Engine) -> None:
    """A column that is added to ``tables.py`` without a revision fails here."""
    schema.upgrade(engine)
    assert revision(engine) == head()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


@pytest.mark.slow
def test_a_second_upgrade_changes_nothing(engine: sa.Engine) -> None:
    """Every start asks; only the first one finds something to do."""
    schema.upgrade(engine)
    before = rows(engine)
    schema.upgrade(engine)
    assert (rows(engine), revision(engine)) == (before, head())


@pytest.mark.slow
def test_a_current_database_is_opened_without_alembic(engine: sa.Engine) -> None:
    """What upgrades stays out of the memory of a server that has nothing to upgrade."""
    code = (
        "import sys\n"
        "from airflow_provider_azureml_classic.server.state.database import Database\n"
        "Database(sys.stdin.read(), 'A' * 43 + '=').close()\n"
        "print('alembic' in sys.modules)"
    )
    url = engine.url.render_as_string(hide_password=False)

    def opened() -> str:
        done = subprocess.run([sys.executable, "-c", code], input=url, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert [opened(), opened()] == ["True", "False"]
    assert revision(engine) == head()


@pytest.mark.slow
def test_a_database_from_before_revisions_is_taken_over(engine: sa.Engine) -> None:
    """Tables without a revision are those of the first; their rows stay."""
    first_tables(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO experiments VALUES ('one', 'digest', '{}')")
    schema.upgrade(engine)
    assert revision(engine) == head()
    assert [dict(row)["name"] for row in rows(engine)["experiments"]] == ["one"]


def one_endpoint(connection: sa.Connection) -> None:
    """A web service with the endpoint ``e``, in the first schema."""
    service = "'s', 'S', 'e', true, '2016-03-01'"
    endpoint = "'e', 's', 'default', '2016-03-01', :k, :k, 'Low', 4, 'None', false, false, 1, '2016-03-01'"
    names = "id, service_id, name, created_at, primary_key, secondary_key, throttle_level, max_concurrent_calls, "
    names += "trace_level, prevent_update, sample_data_enabled, revision, changed_at"
    connection.execute(sa.text(f"INSERT INTO web_services VALUES ({service})"))  # noqa: S608
    connection.execute(sa.text(f"INSERT INTO endpoints ({names}) VALUES ({endpoint})"), {"k": b"k"})  # noqa: S608


@pytest.mark.slow
def test_histories_begin_with_the_models_that_are_there(engine: sa.Engine) -> None:
    """The model in place is the first entry of its endpoint's history, with the window that its path says."""
    first_tables(engine)
    with engine.begin() as connection:
        one_endpoint(connection)
        place = "'e', 'm', '', 'models/default/20160228T000000Z.ilearner', 'd'"
        names = "endpoint_id, name, base_location, relative_location, digest"
        connection.execute(sa.text(f"INSERT INTO resources ({names}) VALUES ({place})"))  # noqa: S608
    schema.upgrade(engine)
    with engine.connect() as connection:
        (entry,) = connection.execute(sa.select(placements)).mappings()
    # The number that clients were told before there was one for each endpoint.
    assert entry["number"] == entry["id"] == 1
    assert (entry["endpoint_id"], entry["resource"], entry["digest"], entry["live"]) == ("e", "m", "d", True)
    assert (f"{entry['window_end']:%F}", f"{entry['placed_at']:%F}", entry["how"]) == (
        "2016-02-28",
        "2016-03-01",
        "earlier",
    )


@pytest.mark.slow
def test_started_jobs_keep_their_order(engine: sa.Engine) -> None:
    """What a job's start was before, a mark, becomes its place in the queue; a running one runs again."""
    first_tables(engine)
    with engine.begin() as connection:
        one_endpoint(connection)
        for job, status, queued, day in (
            ("c", "NotStarted", True, 3),
            ("a", "Running", True, 1),
            ("b", "NotStarted", False, 2),
            ("d", "Finished", True, 1),
        ):
            values = {"id": job, "status": status, "queued": queued, "r": b"r", "at": f"2016-03-0{day} 12:00:00"}
            columns = "id, endpoint_id, status, queued, request, created_at"
            text = f"INSERT INTO jobs ({columns}) VALUES (:id, 'e', :status, :queued, :r, :at)"  # noqa: S608
            connection.execute(sa.text(text), values)
    schema.upgrade(engine)
    places = {row["id"]: row["place"] for row in rows(engine)["jobs"]}
    assert places["b"] is None
    assert places["a"] < places["c"]


@pytest.mark.slow
def test_a_newer_database_is_refused(engine: sa.Engine) -> None:
    """What a newer version has written is left alone, with a sentence that says what to do."""
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ValueError, match="revision 9999; this version of the package knows those up to"):
        schema.upgrade(engine)
    assert revision(engine) == "9999"


def with_next(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str = NEXT) -> None:
    """Add a revision after the newest one."""
    newest = head()
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "9000_next.py").write_text(text.format(head=newest))
    monkeypatch.setattr(schema, "MIGRATIONS", folder)


@pytest.mark.slow
def test_an_upgrade_keeps_every_row(
    engine: sa.Engine, service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A database with endpoints, keys, models and jobs, and a revision that copies a table they refer to."""
    service = Service(service_dir, clock, monkeypatch)
    mine = service.client.add_endpoint(service.scoring, "mine")
    assert service.patch("mine", service.put_blob("models/again.ilearner", service.read_blob("models/ten.ilearner")))
    service.submit(mine, service.put_blob("data/rows.csv", "x\n1\n"))
    service.close()
    source = make_engine(f"sqlite:///{service_dir / 'state.db'}")
    schema.upgrade(engine)
    with source.connect() as old, engine.begin() as new:
        for table in metadata.sorted_tables:
            found = old.execute(sa.select(table)).mappings().all()
            if found:
                new.execute(sa.insert(table), [dict(row) for row in found])
    source.dispose()
    assert all(rows(engine)[name] for name in ("endpoints", "endpoint_keys", "resources", "jobs", "web_services"))
    with_next(monkeypatch, tmp_path / "migrations")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE endpoints SET description = ''")
    before = rows(engine)
    schema.upgrade(engine)
    after = rows(engine)
    assert [row["added"] for row in after["endpoints"]] == [7] * len(before["endpoints"])
    kept = {name: [{**row} for row in found] for name, found in after.items()}
    for row in kept["endpoints"]:
        del row["added"]
    assert kept == {name: [{**row} for row in found] for name, found in before.items()}
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


@pytest.mark.slow
def test_an_upgrade_that_fails_changes_nothing(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half an upgrade is none: the next start finds the database as it was."""
    schema.upgrade(engine)
    before = revision(engine)
    with_next(monkeypatch, tmp_path / "migrations", NEXT + "    raise RuntimeError('half-way')\n")
    with pytest.raises(RuntimeError, match="half-way"):
        schema.upgrade(engine)
    assert revision(engine) == before
    with engine.connect() as connection:
        assert "added" not in [column["name"] for column in sa.inspect(connection).get_columns("endpoints")]


@pytest.mark.slow
def test_servers_that_start_at_once_upgrade_once(postgres: Cluster) -> None:
    """Eight at once on one empty PostgreSQL: all find it upgraded, none fails."""
    url = checked_url(postgres.new_database())
    barrier = threading.Barrier(8)

    def start(_: int) -> str | None:
        engine = make_engine(url)
        try:
            barrier.wait()
            schema.upgrade(engine)
            return revision(engine)
        finally:
            engine.dispose()

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(start, range(8))) == [head()] * 8


def test_the_address_of_a_database_is_checked() -> None:
    """What is none is refused, and no message shows the password."""
    secret = "p%40ss-word"
    for wrong in (f"mysql://me:{secret}@host/db", f"postgresql://me:{secret}@host", f"{secret}", f"//{secret}@"):
        with pytest.raises(ValueError, match="must be postgresql://") as refused:
            checked_url(wrong)
        assert "word" not in str(refused.value)
    url = sa.make_url(checked_url(f"postgres://me:{secret}@host:5433/state?sslpassword=word"))
    assert (url.drivername, url.password, where(url)) == ("postgresql+limited", "p@ss-word", "host:5433/state")
