"""How scoring calls are counted, limited in time and logged, and what is answered to calls that are not offered."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import CODES, AzureMLClassicError, NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.errors import to_response
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.not_offered import NOT_OFFERED
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.blobs.names import DIAGNOSTICS_CONTAINER
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.web import asgi, bodies
from airflow_provider_azureml_classic.server.web.lanes import Lane
from airflow_provider_azureml_classic.server.web.threads import Threads, database_threads
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics
from tests.support.service import WORKSPACE, Service, line

ROW = {"Inputs": {"input1": [{"x": 1.0}]}}


def score(service: Service, endpoint: Endpoint, body: Any = ROW) -> Response:
    """One scoring call."""
    return service.ask("POST", service.api_path(endpoint, "/execute"), body, key=endpoint.primary_key)


def detail(response: Response) -> str:
    """The useful code of an error."""
    return str(json.loads(response.body)["error"]["details"][0]["code"])


class Slow:
    """Holds every scoring call at the model until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go, self.arrived = threading.Event(), threading.Semaphore(0)
        score_at_once = Scorer.score

        def held(*arguments: Any) -> Any:
            self.arrived.release()
            assert self.go.wait(60)
            return score_at_once(*arguments)

        monkeypatch.setattr(Scorer, "score", held)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    """A model that takes as long as a test wants."""
    made = Slow(monkeypatch)
    yield made
    made.go.set()


# -- concurrency -----------------------------------------------------------------------------------------------------


def test_calls_beyond_the_concurrency_of_an_endpoint_are_throttled(
    service: Service, scorer: Endpoint, slow: Slow
) -> None:
    """The fifth of a Low endpoint; another endpoint and a wrong key are not concerned, and room is made at the end."""
    other = service.client.add_endpoint(service.scoring, "other")
    with ThreadPoolExecutor(5) as threads:
        held = [threads.submit(score, service, scorer) for _ in range(4)]
        for _ in held:
            assert slow.arrived.acquire(timeout=60)
        beyond = score(service, scorer)
        assert (beyond.status, detail(beyond), beyond.headers["retry-after"]) == (503, "RequestThrottled", "1")
        assert "'mine' has 4 calls" in beyond.body.decode()
        assert score(service, replace(scorer, primary_key="wrong")).status == 401
        elsewhere = threads.submit(score, service, other)
        assert slow.arrived.acquire(timeout=60)
        slow.go.set()
        assert [call.result().status for call in (*held, elsewhere)] == [200] * 5
    assert score(service, scorer).status == 200


@pytest.mark.slow
def test_a_failed_call_leaves_its_place(service: Service, scorer: Endpoint) -> None:
    """More failures than the endpoint has places, then a call that is good."""
    assert [score(service, scorer, b"{").status for _ in range(9)] == [400] * 9
    assert score(service, scorer).status == 200


async def test_calls_of_all_endpoints_together_are_bounded(service: Service, scorer: Endpoint, slow: Slow) -> None:
    """Beyond the total nothing waits for a thread; what is no scoring call is answered all the same."""
    threads = Threads(service.app, 60, database_threads(), most=1)
    path, _, query = service.api_path(scorer, "/execute").partition("?")
    headers, body = {"authorization": f"Bearer {scorer.primary_key}"}, json.dumps(ROW).encode()
    first = asyncio.ensure_future(threads.answer(Lane.THREAD, "POST", path, query, headers, body))
    assert await asyncio.to_thread(slow.arrived.acquire, timeout=60)
    beyond = await threads.answer(Lane.THREAD, "POST", path, query, headers, body)
    assert (beyond.status, detail(beyond)) == (503, "TooManyConcurrentRequests")
    assert (await threads.answer(Lane.OTHER, "GET", "/static/help.css", "", {}, b"")).status == 200
    slow.go.set()
    assert (await first).status == 200
    assert (await threads.answer(Lane.THREAD, "POST", path, query, headers, body)).status == 200


async def test_large_bodies_are_decoded_in_turns(
    service: Service, scorer: Endpoint, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit waits, at last for 503, whatever its operation; a small body never does, and all are let go."""
    monkeypatch.setattr(bodies, "MAX_DECODED", 2 * bodies.SMALL_BODY)
    threads = Threads(service.app, 60, database_threads())
    path, _, query = service.api_path(scorer, "/execute").partition("?")
    headers, body = {"authorization": f"Bearer {scorer.primary_key}"}, json.dumps(ROW).encode()
    large = body + b" " * bodies.SMALL_BODY
    first = asyncio.ensure_future(threads.answer(Lane.THREAD, "POST", path, query, headers, large))
    assert await asyncio.to_thread(slow.arrived.acquire, timeout=60)
    monkeypatch.setattr(bodies, "LONGEST_TURN", 0.01)
    for lane in (Lane.THREAD, Lane.OTHER):
        beyond = await threads.answer(lane, "POST", path, query, headers, large)
        assert (beyond.status, detail(beyond), beyond.headers["retry-after"]) == (503, "NoMoreResources", "1")
    assert (await threads.answer(Lane.OTHER, "GET", "/static/help.css", "", {}, b"")).status == 200
    monkeypatch.setattr(bodies, "LONGEST_TURN", 60)
    waiting = asyncio.ensure_future(threads.answer(Lane.THREAD, "POST", path, query, headers, large))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    slow.go.set()
    assert [(await call).status for call in (first, waiting)] == [200, 200]
    assert threads._turns.size == 0


async def test_the_largest_body_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that would fit beside those at work do not pass one that waits."""
    turns, order = bodies.Turns(), list[int]()
    assert asgi.MAX_BODY <= bodies.MAX_DECODED
    await turns.begin(bodies.MAX_DECODED // 2)

    async def one(size: int) -> None:
        await turns.begin(size)
        order.append(size)
        turns.end(size)

    waiting = [asyncio.ensure_future(one(size)) for size in (asgi.MAX_BODY, bodies.MAX_DECODED // 4)]
    await asyncio.sleep(0)
    assert not order
    turns.end(bodies.MAX_DECODED // 2)
    await asyncio.gather(*waiting)
    assert order == [asgi.MAX_BODY, bodies.MAX_DECODED // 4]
    assert turns.size == 0


async def test_two_files_are_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small they are: some hundred bytes of Parquet stand for very many."""
    monkeypatch.setattr(bodies, "LONGEST_TURN", 0.01)
    arrived, go = threading.Semaphore(0), threading.Event()

    class Reading:
        def answer(self, *_: object) -> Response:
            arrived.release()
            assert go.wait(60)
            return Response(200)

        def refuse(self, method: str, path: str, error: AzureMLClassicError) -> Response:
            return to_response(error)

    threads = Threads(Reading(), 60, database_threads())
    first = [asyncio.ensure_future(threads.answer(Lane.FILE, "POST", "/rows", "", {}, b"x")) for _ in range(2)]
    for _ in first:
        assert await asyncio.to_thread(arrived.acquire, timeout=60)
    assert (await threads.answer(Lane.FILE, "POST", "/rows", "", {}, b"x")).status == 503
    go.set()
    assert [(await call).status for call in first] == [200, 200]


async def test_a_call_that_takes_too_long_is_answered(service: Service, scorer: Endpoint, slow: Slow) -> None:
    """408 with the published code; what runs on keeps its place until it ends."""
    threads = Threads(service.app, 0.01, database_threads(), most=1)
    path, _, query = service.api_path(scorer, "/execute").partition("?")
    headers, body = {"authorization": f"Bearer {scorer.primary_key}"}, json.dumps(ROW).encode()
    late = await threads.answer(Lane.THREAD, "POST", path, query, headers, body)
    assert (late.status, detail(late)) == (408, "ScoreRequestTimeout")
    assert re.fullmatch("[0-9a-f]{32}", late.headers["x-ms-request-id"])
    assert detail(await threads.answer(Lane.THREAD, "POST", path, query, headers, body)) == "TooManyConcurrentRequests"


# -- diagnostics -----------------------------------------------------------------------------------------------------


def logs(service: Service, kind: str) -> list[dict[str, Any]]:
    """The diagnostics logs of a type; all of them once the service has stopped."""
    if service.blobs.container_properties(DIAGNOSTICS_CONTAINER) is None:
        return []
    names = [blob.name for blob in service.blobs.list(DIAGNOSTICS_CONTAINER)]
    return [json.loads(service.read_blob(f"{DIAGNOSTICS_CONTAINER}/{name}")) for name in names if f"/{kind}/" in name]


@pytest.mark.parametrize(("level", "scored", "jobs"), [("All", [200, 400], 2), ("Error", [400], 1)])
def test_diagnostics_go_to_their_container(
    service: Service, scorer: Endpoint, level: str, scored: list[int], jobs: int
) -> None:
    """One blob for each call and job below the documented prefix, as far as the level says; no key, token or row."""
    service.ask("PATCH", service.endpoint_path("mine"), {"DiagnosticsTraceLevel": level})
    answers = [score(service, scorer), score(service, scorer, {"Inputs": {"input1": [{"x": "high"}]}})]
    good = service.submit(scorer, service.put_blob("data/rows.csv", "x\n123.456\n"))
    bad = service.submit(scorer, service.put_blob("data/bad.csv", "z\n1\n"))
    for job in (good, bad):
        service.ended(scorer, job)
    deadline = time.monotonic() + 30
    # A job has ended a moment before its log is written.
    while len(logs(service, "batch")) < jobs and time.monotonic() < deadline:
        time.sleep(0.05)
    service.close()
    found = sorted(logs(service, "score/requests"), key=lambda entry: entry["status"])
    assert [entry["status"] for entry in found] == scored
    assert found[-1]["requestId"] == answers[1].headers["x-ms-request-id"]
    assert (found[-1]["code"], found[-1]["endpoint"]) == ("InputParseError", "mine")
    batch = {entry["job"]: entry for entry in logs(service, "batch")}
    assert len(batch) == jobs
    assert "expected the columns x." in batch[bad]["Lines"][-1]["Text"]
    guid = scorer.api_location.rpartition("/")[2]
    prefix = f"{WORKSPACE}-{service.scoring}-{guid}/"
    names = [blob.name for blob in service.blobs.list(DIAGNOSTICS_CONTAINER)]
    assert all(re.fullmatch(rf"{prefix}(batch|score/requests|score/init)/[^/]+", name) for name in names)
    everything = b"".join(service.read_blob(f"{DIAGNOSTICS_CONTAINER}/{name}") for name in names)
    secrets = (scorer.primary_key, scorer.secondary_key, "sig=", "AccountKey", "123.456")
    assert [text for text in secrets if text.encode() in everything] == []


def test_no_diagnostics_unless_they_are_wanted(service: Service, scorer: Endpoint) -> None:
    """The level is ``None`` by default: not even the container is made."""
    score(service, scorer)
    service.close()
    assert service.blobs.container_properties(DIAGNOSTICS_CONTAINER) is None


def test_loading_a_model_is_logged(service: Service, scorer: Endpoint) -> None:
    """At the first call only; the answer does not wait for the log."""
    service.ask("PATCH", service.endpoint_path("mine"), {"DiagnosticsTraceLevel": "all"})
    service.close()
    again = Service(service.settings.data_dir, service.clock, pytest.MonkeyPatch())
    for _ in range(2):
        assert score(again, scorer).status == 200
    again.close()
    assert len(logs(again, "score/init")) == 1


def test_logs_that_come_too_fast_are_dropped_and_counted(service: Service, scorer: Endpoint, caplog: Any) -> None:
    """Scoring never waits for a disk: with no room at all every call is answered at once."""
    row = replace(service.workspace.cached(scorer.api_location[-32:]) or _row(service, scorer), trace_level="All")
    diagnostics = Diagnostics(service.blobs, WORKSPACE, service.clock, waiting=1)
    diagnostics._start = lambda: None  # type: ignore[method-assign]
    for number in range(5):
        diagnostics.scored(row, str(number), 0.1, None)
    assert diagnostics.dropped == 4
    assert caplog.text.count("some are dropped") == 1


def _row(service: Service, endpoint: Endpoint) -> Any:
    score(service, endpoint)
    return service.workspace.cached(endpoint.api_location[-32:])


# -- what is not offered ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("PUT", f"/workspaces/{WORKSPACE}/webservices/{'9' * 32}", "--experiments"),
        ("PUT", "/workspaces/any/webservices/any/", "publishWebService"),
        ("GET", f"/workspaces/{WORKSPACE}/experiments", "experiments"),
        ("POST", f"/api/workspaces/{WORKSPACE}/experiments/1/webservice", "TOML"),
        ("POST", "/api/resourceuploads/workspaces/x/", "blobs"),
        ("POST", f"/workspaces/{WORKSPACE}/services/{'0' * 32}/score", "/execute?api-version=2.0"),
        ("PUT", "/subscriptions/1/resourceGroups/2/providers/Microsoft.MachineLearning/webServices/3", "PATCH"),
    ],
)
def test_what_is_not_offered_says_what_to_do(service: Service, method: str, path: str, words: str) -> None:
    """At its published address, with a code: no bare 404."""
    response = service.ask(method, path, {}, key=None)
    assert (response.status, detail(response)) == (CODES["OperationNotSupported"][1], "OperationNotSupported")
    assert words in json.loads(response.body)["error"]["message"]


def test_what_is_offered_is_not_refused() -> None:
    """No group takes a path that the server answers, and none is a plain unknown path."""
    offered = [("GET", "/workspaces/w/webservices"), ("DELETE", "/workspaces/w/webservices/s")]
    offered += [("PUT", "/workspaces/w/webservices/s/endpoints/e"), ("POST", "/workspaces/w/services/e/execute")]
    offered += [("GET", "/"), ("GET", "/workspaces"), ("GET", "/apihelp/workspaces/w"), ("GET", "/nowhere")]
    assert [(m, p) for m, p in offered for group in NOT_OFFERED if group.matches(m, p)] == []


def test_a_wrong_method_names_the_right_ones(service: Service) -> None:
    """405 carries ``Allow``."""
    response = service.ask("PUT", service.endpoint_path("default") + "/refresh")
    assert (response.status, response.headers["allow"]) == (405, "POST")
    response = service.ask("POST", service.endpoint_path("default"))
    assert response.headers["allow"] == "DELETE, GET, PATCH, PUT"


# -- a patch of nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [{}, {"Resources": []}, {"Resources": None}, {"Description": None}, {"ThrottleLevel": "Low"}]
)
def test_a_patch_of_nothing_changes_nothing(service: Service, scorer: Endpoint, body: Any) -> None:
    """Neither ``ETag`` nor ``Version``; one that changes something does."""
    before = service.client.get_endpoint(service.scoring, "mine")
    service.clock.advance(hours=1)
    assert service.ask("PATCH", service.endpoint_path("mine"), body).status == 200
    after = service.client.get_endpoint(service.scoring, "mine")
    assert (after.etag, after.version) == (before.etag, before.version)
    service.ask("PATCH", service.endpoint_path("mine"), {"Description": "new"})
    assert service.client.get_endpoint(service.scoring, "mine").etag != before.etag


def test_a_patch_of_nothing_still_keeps_to_if_match(service: Service, scorer: Endpoint) -> None:
    """A stale ``ETag`` is told although there is nothing to change."""
    response = service.ask("PATCH", service.endpoint_path("mine"), {}, headers={"if-match": '"99"'})
    assert response.status == 412


# -- jobs as people look at them -------------------------------------------------------------------------------------


def listing(service: Service, endpoint: Endpoint, query: str = "", **more: Any) -> Any:
    """A page of an endpoint's jobs."""
    return service.ask("GET", service.api_path(endpoint, "/jobs") + query, **more)


def test_jobs_are_listed_newest_first_in_pages(service: Service) -> None:
    """Every job once, the newest first, also those of the same moment; without results, for key and token alike."""
    trainer = service.client.get_endpoint(service.training, "default")
    data = service.put_blob("data/five.csv", line(5))
    made = []
    for number in range(7):
        made.append(service.client.submit_job(trainer, _request(data)))
        if number % 3 == 0:
            service.clock.advance(minutes=1)
    seen, before = [], ""
    while before is not None:
        page = json.loads(listing(service, trainer, f"&limit=3{before and f'&before={before}'}").body)
        assert len(page["Jobs"]) <= 3
        seen += [job["JobId"] for job in page["Jobs"]]
        before = page["Next"]
    assert sorted(seen) == sorted(made)
    assert (seen[-1], {"Results"} & {*page["Jobs"][0]}) == (made[0], set())
    created = {job["JobId"]: job["CreatedAt"] for job in json.loads(listing(service, trainer).body)["Jobs"]}
    assert [created[job] for job in seen] == sorted(created.values(), reverse=True)
    assert listing(service, trainer, key=trainer.secondary_key).body == listing(service, trainer).body


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("&limit=0", 400, "InvalidQueryParameter"),
        ("&limit=501", 400, "InvalidQueryParameter"),
        ("&limit=x", 400, "InvalidQueryParameter"),
        ("&before=nothing", 404, "JobNotFound"),
    ],
)
def test_a_wrong_page_is_refused(service: Service, query: str, status: int, code: str) -> None:
    """By the parameter's name."""
    trainer = service.client.get_endpoint(service.training, "default")
    response = listing(service, trainer, query)
    assert (response.status, detail(response)) == (status, code)


def test_the_log_of_a_job_tells_what_happened(service: Service) -> None:
    """Rows, columns, metrics, places; the last line is the progress that GET shows."""
    trainer = service.client.get_endpoint(service.training, "default")
    target = service.signed("models/five.ilearner", "cw")
    job_id = service.submit(trainer, service.put_blob("data/five.csv", line(5)), output1=target)
    assert service.ended(trainer, job_id).progress == "Finished."
    path = service.api_path(trainer, f"/jobs/{job_id}/log")
    text = "\n".join(entry["Text"] for entry in json.loads(service.ask("GET", path).body)["Lines"])
    told = [
        "Submitted to endpoint 'default'",
        "Reads input1 from data/five.csv.",
        "Trained on 21 rows with 1 features",
    ]
    told += ["Mean Absolute Error", "Wrote models/five.ilearner", "Finished."]
    assert [words for words in told if words not in text] == []
    assert target.sas_token[-20:] not in text
    other = service.client.add_endpoint(service.training, "other")
    assert service.ask("GET", path, key=other.primary_key).status == 401
    assert service.ask("GET", service.api_path(other, f"/jobs/{job_id}/log")).status == 404


@pytest.mark.slow
def test_the_log_tells_what_a_job_overwrites(service: Service) -> None:
    """A place that a client names is overwritten, and the log of the job says so; the first job's does not."""
    trainer, target = (
        service.client.get_endpoint(service.training, "default"),
        service.signed("models/own.ilearner", "cw"),
    )
    lines = []
    for slope in (5, 6):
        job_id = service.submit(trainer, service.put_blob("data/line.csv", line(slope)), output1=target)
        service.ended(trainer, job_id)
        log = json.loads(service.ask("GET", service.api_path(trainer, f"/jobs/{job_id}/log")).body)["Lines"]
        lines += [entry["Text"] for entry in log if entry["Text"].startswith("Wrote models/own")]
    first = "Wrote models/own.ilearner"
    assert lines == [f"{first}.", f"{first}, over an older file that lay there."]


def test_the_log_of_a_failed_job_ends_with_the_reason(service: Service) -> None:
    """Also the one of a cancelled job."""
    trainer = service.client.get_endpoint(service.training, "default")
    failed = service.ended(trainer, service.submit(trainer, BlobReference("data/absent.csv")))
    assert failed.progress == f"Failed: {failed.details}"
    job_id = service.client.submit_job(trainer, _request(BlobReference("data/absent.csv")))
    service.client.cancel_job(trainer, job_id)
    assert service.client.get_job(trainer, job_id).progress == "Cancelled."


def _request(data: BlobReference) -> JobRequest:
    return JobRequest({"input1": data})


def test_the_client_reads_lists_and_logs(service: Service) -> None:
    """Page by page, and line by line."""
    trainer = service.client.get_endpoint(service.training, "default")
    made = [service.client.submit_job(trainer, _request(service.put_blob("data/5.csv", line(5)))) for _ in range(3)]
    page = service.client.list_jobs(trainer, limit=2)
    rest = service.client.list_jobs(trainer, limit=2, before=page.next)
    assert ({job.id for job in (*page.jobs, *rest.jobs)}, rest.next) == ({*made}, None)
    (entry,) = service.client.job_log(trainer, made[0])
    assert (entry.time, entry.text[:9]) == (service.clock.now, "Submitted")
    with pytest.raises(NotFound, match="has no job"):
        service.client.job_log(trainer, "0" * 32)


@pytest.mark.parametrize("status", [404, 405])
def test_the_client_says_that_a_service_has_no_lists(service: Service, status: int) -> None:
    """The cloud service and others like it: told apart from a job that is not there."""
    trainer = service.client.get_endpoint(service.training, "default")
    client = Client("http://other.test", WORKSPACE, "t", transport=lambda _: Response(status, {}, b""))
    for ask in (lambda: client.list_jobs(trainer), lambda: client.job_log(trainer, "0" * 32)):
        with pytest.raises(RequestRejected, match="azureml-classic-server") as error:
            ask()
        assert error.value.detail_code == "OperationNotSupported"
