"""What operators ask and read: health, readiness, metrics, access log."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.counters.traffic import BOUNDS, Hour, Observer, Traffic, access_logger
from tests.support import ServerProcess
from tests.support.portal import BASE
from tests.support.service import TOKEN, Service


@pytest.fixture
def http(service: Service) -> TestClient:
    """Asks the service over ASGI."""
    return TestClient(service.http, base_url=BASE, follow_redirects=False, raise_server_exceptions=False)


def scored(http: TestClient, endpoint: Endpoint, x: object = 1, key: str | None = None) -> int:
    """Score a row; returns the status."""
    path = endpoint.api_location.removeprefix(BASE) + "/execute?api-version=2.0"
    body = {"Inputs": {"input1": [{"x": x}]}, "GlobalParameters": {}}
    headers = {"authorization": f"Bearer {key or endpoint.primary_key}"}
    return int(http.post(path, json=body, headers=headers).status_code)


def test_alive_and_ready(http: TestClient) -> None:
    """Both answer everybody."""
    assert http.get("/healthz").text == "ok\n"
    assert http.get("/readyz").json() == {"status": "ready", "database": "ok", "models": "ok"}
    assert http.post("/readyz").status_code == 405


def test_not_ready(http: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part that fails is named, without the reason, which is in the log; the server is alive all the same."""
    models = service.models

    def fails() -> None:
        raise OSError("/secret/place is full")

    monkeypatch.setattr(models, "check_writable", fails)
    monkeypatch.setattr(service.database, "read", fails)
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"status": "not ready", "database": "failed", "models": "failed"}
    assert http.get("/healthz").status_code == 200


def test_metrics_need_the_token(http: TestClient) -> None:
    """Nobody else reads them, unless they were opened."""
    assert http.get("/metrics").status_code == 401
    assert http.get("/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_open_metrics(http: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--open-metrics`` everybody reads them."""
    _, health = service.http._sites["metrics"]
    opened = replace(health, settings=replace(service.settings, open_metrics=True))
    monkeypatch.setitem(service.http._sites, "metrics", ("health", opened))
    assert http.get("/metrics").status_code == 200


def test_metrics_count(http: TestClient, scorer: Endpoint) -> None:
    """Requests by route and status, latencies, jobs, endpoints, models and slots; no name and no key of anything."""
    assert [scored(http, scorer), scored(http, scorer), scored(http, scorer, "x")] == [200, 200, 400]
    http.get("/nothing")
    text = http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['azureml_classic_requests_total{route="score",status="200"}'] == "2.0"
    assert lines['azureml_classic_requests_total{route="score",status="400"}'] == "1.0"
    assert lines['azureml_classic_requests_total{route="none",status="404"}'] == "1.0"
    assert lines['azureml_classic_request_seconds_bucket{le="+Inf",route="score"}'] == "3.0"
    assert lines['azureml_classic_jobs{state="Running"}'] == "0.0"
    assert lines['azureml_classic_unusual_cells_total{kind="unknown category"}'] == "0.0"
    assert lines['azureml_classic_unusual_cells_total{kind="outside trained range"}'] == "0.0"
    assert lines["azureml_classic_counted_rows_total"] == "0.0"
    assert lines["azureml_classic_endpoints"] == "5.0"
    assert lines["azureml_classic_training_slots"] == "1.0"
    assert float(lines["azureml_classic_loaded_models"]) >= 1
    assert "mine" not in text
    assert scorer.primary_key not in text


def test_guessers_leave_no_trace(http: TestClient, service: Service, scorer: Endpoint) -> None:
    """Calls with a wrong key, or of endpoints that are not there, cost no memory."""
    assert scored(http, scorer, key="wrong") == 401
    assert scored(http, replace(scorer, api_location=scorer.api_location[:-1] + "x")) == 401
    traffic: Traffic = service.http._observer._traffic
    assert traffic._endpoints == {}


# -- the last hour -----------------------------------------------------------------------------------------------------


def test_the_last_hour() -> None:
    """Calls, errors and latencies of sixty minutes; what is older is forgotten."""
    now = [1_000_000 * 60.0]
    traffic = Traffic(lambda: now[0])
    for _ in range(8):
        traffic.scored("a", 200, 0.0004)
    traffic.scored("a", 400, 0.03)
    now[0] += 60
    traffic.scored("a", 500, 20.0)
    hour = traffic.hour("a")
    assert (hour.calls, hour.errors, hour.minutes[-2:]) == (10, 2, (9, 1))
    assert (hour.latency(0.5), hour.latency(0.9), hour.latency(0.99)) == (BOUNDS[0], 0.05, float("inf"))
    assert traffic.per_minute() == {"a": 9 / 5}
    now[0] += 58 * 60
    assert traffic.hour("a").calls == 10
    now[0] += 60
    assert traffic.hour("a").calls == 1
    now[0] += 3600
    assert traffic.hour("a") == Hour()
    assert traffic.per_minute() == {}
    assert traffic.hour("b").latency(0.5) is None


def test_silent_endpoints_are_dropped() -> None:
    """Endpoints without a call in the last hour are dropped once there are many."""
    now = [1_000_000 * 60.0]
    traffic = Traffic(lambda: now[0])
    for number in range(4096):
        traffic.scored(str(number), 200, 0.001)
    now[0] += 3700
    traffic.scored("new", 200, 0.001)
    assert set(traffic._endpoints) == {"new"}


# -- the access log ----------------------------------------------------------------------------------------------------


@pytest.fixture
def lines(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    """The lines of the access log."""
    found: list[dict[str, object]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(json.loads(record.getMessage()))

    handler = Handler()
    access_logger().addHandler(handler)
    monkeypatch.setattr(service.http, "_observer", Observer(Traffic(), log=True))
    yield found
    access_logger().removeHandler(handler)


def test_each_request_is_a_line(http: TestClient, scorer: Endpoint, lines: list[dict[str, object]]) -> None:
    """Route, status, time and request id, of the API and of the other sites; never a query."""
    scored(http, scorer)
    http.get("/nothing?sig=secret")
    http.get("/portal/sign-in?next=secret")
    http.get("/mlclassic/models/ten.ilearner?sig=secret")
    assert [(line["route"], line["status"]) for line in lines[:3]] == [("score", 200), ("none", 404), ("portal", 200)]
    assert lines[3]["route"] == "blobs"
    assert set(lines[0]) == {"time", "request_id", "route", "method", "path", "status", "ms"}
    assert len(str(lines[0]["request_id"])) == 32
    assert "secret" not in json.dumps(lines)


@pytest.mark.slow
def test_the_log_of_a_real_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    """``--access-log`` writes JSON to stderr, ``--open-metrics`` opens the metrics, and no query is written."""
    from urllib.request import urlopen

    server = ServerProcess(tmp_path_factory.mktemp("logged") / "data", "--access-log", "--open-metrics")
    try:
        with urlopen(f"{server.url}/metrics?secret=1") as answer:
            assert b"azureml_classic_endpoints" in answer.read()
    finally:
        server.stop()
    logged = [json.loads(line) for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert [line["path"] for line in logged] == ["/metrics"]
    assert "secret" not in server.log.read_text()
