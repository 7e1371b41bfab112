"""What old jobs have left is removed, and nothing that anybody needs."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.__main__ import main
from airflow_provider_azureml_classic.server.jobs import retention as retention_module
from airflow_provider_azureml_classic.server.jobs.retention import Remover
from airflow_provider_azureml_classic.server.settings import Retention
from airflow_provider_azureml_classic.server.state import history
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.engine import checked_url
from airflow_provider_azureml_classic.server.state.retention_store import Removal, RetentionStore
from airflow_provider_azureml_classic.server.workspace.workspace import Caller
from tests.support.postgres import Cluster
from tests.support.service import Clock, Service, line

EVERYTHING = Retention(model_days=10, output_days=10, log_days=10)


@pytest.fixture
def clock() -> Clock:
    """A clock that begins now: files have the times of their disk."""
    made = Clock()
    made.now = datetime.now(UTC)
    return made


@pytest.fixture
def service(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service with rules for all that it keeps."""
    running = Service(service_dir, clock, monkeypatch, retention=EVERYTHING)
    yield running
    running.close()


@pytest.fixture
def remover(service: Service) -> Remover:
    """What removes, as it runs in the background of the service."""
    return service.remover()


def trained(service: Service, trainer: Endpoint, slope: float, **outputs: BlobReference) -> str:
    """Train a model; id of the job."""
    data = service.put_blob(f"data/{slope}.csv", line(slope))
    job_id = service.submit(trainer, data, **outputs)
    service.ended(trainer, job_id)
    return job_id


def places(service: Service, endpoint: Endpoint, job_id: str) -> list[str]:
    """Where a job wrote."""
    job = service.client.get_job(endpoint, job_id)
    samples = [job.samples] if job.samples else []
    return [reference.relative_location for reference in (*job.results.values(), *samples)]


def are_there(service: Service, paths: list[str]) -> list[bool]:
    """Which blobs there are."""
    return [service.blobs.exists(*path.split("/", 1)) for path in paths]


def two_rounds(service: Service, remover: Remover) -> None:
    """Note what may go, and remove it when its time has come."""
    remover.round()
    service.clock.advance(days=1)
    remover.round()


@pytest.mark.slow
def test_what_nobody_needs_goes(service: Service, remover: Remover, trainer: Endpoint, scorer: Endpoint) -> None:
    """Not before its time, nor within a day of when it was noted; who asks for it later is told when and why."""
    live, old = trained(service, trainer, 3), trained(service, trainer, 4)
    location = BlobReference(places(service, trainer, live)[0])
    assert service.patch("mine", service.signed(location.relative_location)).status == 200
    paths, needed = places(service, trainer, old), places(service, trainer, live)
    assert len(paths) == 3
    service.clock.advance(days=10, minutes=-1)
    remover.round()
    service.clock.advance(minutes=2)
    remover.round()
    service.clock.advance(hours=23)
    remover.round()
    assert are_there(service, paths) == [True] * 3
    service.clock.advance(hours=1)
    remover.round()
    assert are_there(service, paths) == [False] * 3
    assert are_there(service, needed) == [True] * 3
    why = f"The server removed it on {service.clock.now:%Y-%m-%d %H:%M} UTC (--model-days 10)."
    refused = service.patch("mine", service.signed(paths[0]))
    assert (refused.status, why in refused.body.decode()) == (400, True)
    scoring = service.ended(trainer, service.submit(trainer, service.signed(paths[1])))
    assert why in (scoring.details or "")
    (entry,) = (one for one in service.client.list_audit().entries if one.who == "retention" and "Out" in one.what)
    assert (entry.what, entry.status) == ("RemoveOutputs", 200)
    assert entry.target == f"1 jobs, first {old} (--model-days 10)"


@pytest.mark.slow
def test_what_was_live_can_be_put_back_as_long(
    service: Service, remover: Remover, trainer: Endpoint, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time counts from when a model was live last, not from its training; afterwards the refusal says why."""
    monkeypatch.setattr(history, "KEPT_MODELS", 1)
    first, second = (places(service, trainer, trained(service, trainer, slope)) for slope in (3, 4))
    assert service.patch("mine", service.signed(first[0])).status == 200
    service.clock.advance(days=30)
    assert service.patch("mine", service.signed(second[0])).status == 200
    number = service.client.list_models(service.scoring, "mine").models[1].number
    service.clock.advance(days=9)
    two_rounds(service, remover)
    assert are_there(service, first) == [True] * 3
    service.clock.advance(hours=1)
    two_rounds(service, remover)
    assert are_there(service, first) == [False] * 3
    for digest in service.models.digests() - service.store.digests():
        service.models.path(digest).unlink()
    with pytest.raises(AzureMLClassicError, match=r"The server removed it on .* UTC \(--model-days 10\)"):
        service.updates.roll_back(Caller(), service.scoring, "mine", number)


@pytest.mark.slow
def test_what_a_job_will_read_stays(service: Service, remover: Remover, trainer: Endpoint, scorer: Endpoint) -> None:
    """A scored file is the input of a job that nobody has started yet: it goes when that job has ended."""
    rows = service.put_blob("data/rows.csv", "x\n1\n")
    job_id = service.submit(scorer, rows, output1=BlobReference("scored/rows.csv"))
    service.ended(scorer, job_id)
    waiting = service.client.submit_job(scorer, JobRequest({"input1": BlobReference("scored/rows.csv")}))
    service.clock.advance(days=11)
    two_rounds(service, remover)
    assert are_there(service, ["scored/rows.csv", "data/rows.csv"]) == [True, True]
    service.client.start_job(scorer, waiting)
    service.ended(scorer, waiting)
    two_rounds(service, remover)
    # What a client has put there is his.
    assert are_there(service, ["scored/rows.csv", "data/rows.csv"]) == [False, True]


@pytest.mark.slow
def test_what_was_written_over_stays(service: Service, remover: Remover, trainer: Endpoint) -> None:
    """A place that is used again and again holds the file of somebody else by now."""
    place = BlobReference("models/latest.ilearner")
    trained(service, trainer, 3, output1=place)
    service.clock.advance(days=11)
    path = service.blobs.path("models", "latest.ilearner")
    os.utime(path, (service.clock.now.timestamp(),) * 2)
    two_rounds(service, remover)
    assert are_there(service, [place.relative_location]) == [True]


@pytest.mark.slow
def test_logs_go(service: Service, remover: Remover, trainer: Endpoint) -> None:
    """One line is in their place that says so; those of younger jobs stay. Diagnostics logs go by their own times."""
    for number in range(3):
        service.put_blob(f"ml-diagnostics/w-s-e/batch/{number}.json", "{}")
    old = trained(service, trainer, 3)
    service.clock.advance(days=10)
    young = trained(service, trainer, 4)
    service.clock.advance(minutes=1)
    assert service.blobs.delete_old("ml-diagnostics", service.clock.now, 1) == 1
    assert len(list(service.blobs.list("ml-diagnostics"))) == 2
    remover.round()
    assert list(service.blobs.list("ml-diagnostics")) == []
    (told,) = service.client.job_log(trainer, old)
    assert told.text == "The log of this job was removed because of its age (--log-days 10)."
    assert len(service.client.job_log(trainer, young)) > 3
    remover.round()
    assert service.client.job_log(trainer, old) == (told,)


@pytest.mark.slow
def test_a_round_is_bounded(
    service: Service, remover: Remover, trainer: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes no more than that, and after the last jobs it begins with the first again."""
    monkeypatch.setattr(retention_module, "MOST", 1)
    paths = [places(service, trainer, trained(service, trainer, slope))[0] for slope in (3, 4)]
    service.clock.advance(days=11)
    for _ in range(3):
        remover.round()
    service.clock.advance(days=1)
    left = [2]
    while left[-1] and len(left) < 9:
        remover.round()
        left.append(sum(are_there(service, paths)))
        assert left[-1] >= left[-2] - 1
    assert left[-1] == 0


@pytest.mark.slow
def test_the_report(service: Service, remover: Remover, trainer: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    """It lists what the options would remove while the server runs, and removes and notes nothing."""
    paths = places(service, trainer, trained(service, trainer, 3))
    service.clock.advance(days=-3)
    with service.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET end_time = '2020-01-01 00:00:00.000000'")
    secrets = {name: getattr(service.settings, name) for name in ("workspace_id", "token", "account_key", "cipher_key")}
    (service.settings.data_dir / "secrets.json").write_text(json.dumps(secrets))
    report = ["--data-dir", str(service.settings.data_dir), "--model-days", "30", "--log-days", "3"]
    assert main([*report, "--retention-report"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [text.partition("  ")[0] for text in lines[:-1]] == paths
    assert "--model-days 30  not before 2" in lines[0]
    assert lines[-1] == "Blobs that would be removed: 3. Jobs whose logs would be removed: 1."
    with service.database.read() as connection:
        assert connection.exec_driver_sql("SELECT removal_noted_at FROM jobs").scalars().all() == [None]
    assert are_there(service, paths) == [True] * 3
    with service.database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0017'")
    assert main([*report, "--retention-report"]) == 2
    assert "Start this version's server once" in capsys.readouterr().err


def test_the_report_of_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder in which there was no server stays as it is."""
    assert main(["--data-dir", str(tmp_path), "--model-days", "30", "--retention-report"]) == 2
    assert "has no data of a server in it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "", "99999"])
def test_days_that_are_none(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A number of days that cannot be is refused by its option."""
    with pytest.raises(SystemExit):
        main(["--data-dir", str(tmp_path), f"--model-days={text}"])
    assert "argument --model-days: " in capsys.readouterr().err


@pytest.mark.slow
def test_one_server_at_a_time(postgres: Cluster) -> None:
    """Of two servers one removes; what it asks and writes is understood by PostgreSQL, too."""
    url, cipher = checked_url(postgres.new_database()), base64.urlsafe_b64encode(b"c" * 32).decode()
    databases = [Database(url, cipher) for _ in range(2)]
    one, other = map(RetentionStore, databases)
    with one.alone() as first, other.alone() as second:
        assert (first, second) == (True, False)
    with other.alone() as later:
        assert later
    now = datetime(2026, 11, 28, tzinfo=UTC)
    for trained_any in (True, False):
        assert one.ended(now, 5, (now, "0"), trained=trained_any) == []
    assert (one.placed_since(now), one.contents({"0"}, {"1"}), one.inputs_to_read()) == (set(), set(), [])
    one.note(["0"], now)
    assert list(one.old_logs(now, None)) == []
    for rule in ("--model-days 1", "--model-days 2"):
        one.record("0", ["container/name"], Removal(now, rule))
    assert other.removal("container/name") == Removal(now, "--model-days 2")
    one.forget_removals(1)
    assert one.removal("container/name")
    one.forget_removals(0)
    assert one.removal("container/name") is None
    for database in databases:
        database.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_every_rollback_works(
    service: Service,
    remover: Remover,
    trainer: Endpoint,
    scorer: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Random histories of trainings, updates and rounds, with the server's own copies gone: whatever was live within
    the time that is kept can be put back, and something was removed.
    """
    monkeypatch.setattr(history, "KEPT_MODELS", 1)
    chance, models = random.Random(seed), []  # noqa: S311 - no secret
    for slope in range(3, 9):
        models.append(places(service, trainer, trained(service, trainer, slope))[0])
        for _ in range(chance.randrange(3)):
            service.patch("mine", service.signed(chance.choice(models)))
            service.clock.advance(days=chance.randrange(6))
        two_rounds(service, remover)
    begin = service.clock.now
    two_rounds(service, remover)
    past = service.client.list_models(service.scoring, "mine").models
    for digest in service.models.digests() - service.store.digests_in_place():
        service.models.path(digest).unlink()
    until = [None, *(model.put_live_at for model in past)]
    for model, end in zip(past, until, strict=False):
        if end is None or (begin - end).days < EVERYTHING.model_days:  # type: ignore[operator]
            service.updates.roll_back(Caller(), service.scoring, "mine", model.number)
            live = service.client.get_endpoint(service.scoring, "mine").resource()
            assert live.digests == model.digests
    assert not all(are_there(service, models))
