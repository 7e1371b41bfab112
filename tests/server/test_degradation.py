"""Disk, clock and crowd: loaded models go on answering, the rest says 503 and why, and all is well again by itself."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import requests

from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.blobs.files import files_below
from tests.support import ServerProcess
from tests.support.processes import patch, slope
from tests.support.service import SCORING, TRAINING, Service, declaration, line

FULL, AWAY = "The disk of the server is full", "The blobs of the server are not where they were"


class Site:
    """A real server with an endpoint, a blob and a model that is not live yet.

    :param folder: for its files.
    :param model: content of a model file that answers 20.
    """

    def __init__(self, folder: Path, model: bytes) -> None:
        self.data = folder / "data"
        arguments = ("--experiments", str(declaration(folder, TRAINING)), "--workers", "1")
        self.server = ServerProcess(self.data, *arguments)
        self.client = self.server.client(retries=NO_RETRIES, timeout=60)
        self.service = self.client.find_web_service(SCORING).id
        self.server.upload("data/kept.csv", line(7))
        self.server.upload("models/twenty.ilearner", model)

    def new_endpoint(self, name: str) -> Endpoint:
        """An endpoint whose model is loaded."""
        endpoint = self.client.add_endpoint(self.service, name)
        assert slope(self.client, endpoint) == 2
        return endpoint

    def calls(self, endpoint: Endpoint) -> dict[str, Callable[[], object]]:
        """What needs the disk, by name."""
        new = self.server.sas("data/new.csv", "cw")
        return {
            "read": lambda: self.client.fetch_blob(self.server.sas("data/kept.csv")),
            "write": lambda: self.client.store_blob(new, line(8).encode()),
            "write in blocks": lambda: self.client.store_stream(new, [line(8).encode()]),
            "update": lambda: patch(self.client, endpoint, BlobReference("models/twenty.ilearner")),
        }

    def told(self, endpoint: Endpoint) -> dict[str, str]:
        """What is told of each of them that cannot be done now."""
        told = {}
        for name, call in self.calls(endpoint).items():
            try:
                call()
            except ServiceUnavailable as error:
                told[name] = f"{error.status} {error.message}"
        return told

    def status(self, path: str) -> int:
        """Status of what operators ask."""
        headers = {"authorization": f"Bearer {self.server.connection['token']}"}
        return requests.get(f"{self.server.url}/{path}", headers=headers, timeout=60).status_code

    def check_well(self, endpoint: Endpoint) -> None:
        """All can be done again, nothing that was answered is lost, and the log has no trace of a failure."""
        assert self.told(endpoint) == {}
        assert slope(self.client, endpoint) == 20
        assert self.client.fetch_blob(self.server.sas("data/kept.csv")).decode() == line(7)
        assert self.status("readyz") == 200
        assert "Traceback" not in self.server.log.read_text()


@pytest.fixture(scope="module")
def site(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all tests, each of which leaves it as it was."""
    model = (trained / "data" / "blobs" / "models" / "twenty.ilearner").read_bytes()
    made = Site(tmp_path_factory.mktemp("degraded"), model)
    yield made
    made.client.close()
    made.server.stop()


@pytest.mark.slow
def test_a_full_disk(site: Site) -> None:
    """What can be read is read; what would be written is refused with the reason."""
    endpoint, process = site.new_endpoint("full"), site.server.process.pid
    room = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, room[1]))
    try:
        told = site.told(endpoint)
        well = slope(site.client, endpoint), site.status("healthz"), site.status("readyz")
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, room)
    # An update writes into the database too, which may be the first that has no room.
    update = told.pop("update")
    assert {name: reason.startswith(f"503 {FULL}") for name, reason in told.items()} == {
        "write": True,
        "write in blocks": True,
    }
    assert update.startswith("503 The disk of the ")
    assert well == (2, 200, 503)
    site.check_well(endpoint)


@pytest.mark.slow
def test_a_data_directory_that_is_away(site: Site) -> None:
    """No blob is said not to be there, and no new directory is made that would be in the way of the old one."""
    endpoint, away = site.new_endpoint("away"), site.data.with_name("away")
    site.data.rename(away)
    try:
        told = site.told(endpoint)
        well = slope(site.client, endpoint), *map(site.status, ("healthz", "readyz", "metrics"))
        assert not site.data.exists()
    finally:
        away.rename(site.data)
    assert told.keys() == site.calls(endpoint).keys()
    assert [name for name, reason in told.items() if not reason.startswith(f"503 {AWAY}")] == []
    assert well == (2, 200, 503, 200)
    site.check_well(endpoint)


@pytest.mark.slow
async def test_a_crowd(site: Site) -> None:
    """A hundred times as many calls as an endpoint takes at a time: each is answered, or told to come again."""
    endpoint = site.new_endpoint("crowd")
    url = f"{endpoint.api_location}/execute?api-version=2.0"
    # Too many rows for the event loop: each takes a thread.
    body = {"Inputs": {"input1": {"ColumnNames": ["x"], "Values": [["1"]] * 2000}}}
    headers = {"authorization": f"Bearer {endpoint.primary_key}"}

    async def ask(session: aiohttp.ClientSession) -> int:
        async with session.post(url, json=body, headers=headers) as answer:
            assert len(await answer.read()) > 0
            assert (answer.status == 503) == ("retry-after" in answer.headers)
            return answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=400)) as session:
        statuses = Counter(await asyncio.gather(*(ask(session) for _ in range(400))))
    assert {200} <= statuses.keys() <= {200, 503}
    site.check_well(endpoint)


@pytest.mark.slow
def test_the_clock_jumps(service: Service, scorer: Endpoint, trainer: Endpoint) -> None:
    """Ten years forward, and twenty back: endpoints answer, models are trained and put live, keys are made."""
    data = service.put_blob("data/five.csv", line(5))
    for days in (0, 3650, -7300):
        service.clock.advance(days=days)
        assert service.slope(scorer) == 2
        assert service.patch("mine", BlobReference("models/ten.ilearner")).status == 200
        assert service.slope(scorer) == 10
        job = service.ended(trainer, service.submit(trainer, data))
        assert (job.status, job.details) == (JobStatus.FINISHED, None)
        scorer = service.client.regenerate_key(service.scoring, "mine", KeyType.PRIMARY)
        assert service.client.refresh_endpoint(service.scoring, "mine", overwrite_resources=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, FULL), (errno.EDQUOT, FULL), (errno.EROFS, "read-only"), (errno.EACCES, "read-only"),
        (errno.EIO, "cannot be read or written"), (errno.EMFILE, "files and connections"),
        (errno.ENOMEM, "no more memory"),
    ],
)  # fmt: skip
def test_errors_of_the_system_are_told(
    service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch, code: int, told: str
) -> None:
    """By an update as 503 with the reason, and by a job; none shows a path of the server."""

    def fail(*args: object, **more: object) -> None:
        raise OSError(code, os.strerror(code), "/secret/path")

    data = service.put_blob("data/five.csv", line(5))
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    answer = service.patch("mine", BlobReference("models/ten.ilearner"))
    assert (answer.status, told in answer.body.decode(), answer.headers["retry-after"]) == (503, True, "1")
    assert "secret" not in answer.body.decode()
    job = service.ended(scorer, service.submit(scorer, data))
    assert job.status is JobStatus.FAILED
    assert told in (job.details or "")
    assert service.slope(scorer) == 2


def test_a_folder_that_cannot_be_read_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of blobs or a backup without its files would look whole."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").touch()
    assert list(files_below(tmp_path)) == [tmp_path / "inner" / "file"]
    assert list(files_below(tmp_path / "none")) == []
    scan = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("inner"):
            raise OSError(errno.EIO, "Input/output error", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="Input/output"):
        list(files_below(tmp_path))
