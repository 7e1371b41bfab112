"""Where a request is answered."""

from __future__ import annotations

from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.faults import FaultyApp
from airflow_provider_azureml_classic.server.web.lanes import MAX_AT_ONCE, MAX_ROWS_AT_ONCE, Lane
from tests.support.service import Service


def test_lanes_of_scoring_calls(service: Service, scorer: Endpoint, monkeypatch) -> None:
    """By what is known of the endpoint, and the length of the body; an app that may wait takes a thread for each."""
    path = service.api_path(scorer, "/execute").partition("?")[0]
    assert service.app.lane("POST", path, b"{}") is Lane.READER
    assert service.client.score(scorer, [{"x": 1}]).values
    assert service.app.lane("POST", path, b"x" * MAX_AT_ONCE) is Lane.LOOP
    assert service.app.lane("POST", path, b"x" * (MAX_AT_ONCE + 1)) is Lane.THREAD
    assert service.app.lane("POST", path, b"{" * (MAX_ROWS_AT_ONCE + 1)) is Lane.THREAD
    assert service.app.lane("GET", path, b"") is Lane.THREAD
    for spelled in (path + "/", path.removesuffix("execute") + "Execute"):
        assert service.app.lane("POST", spelled, b"{" * (MAX_ROWS_AT_ONCE + 1)) in (Lane.THREAD, Lane.READER)
    for spelled in ("/v2/models/Line~mine/infer", "/V2/Models/Line~mine/Infer/"):
        assert service.app.lane("POST", spelled, b"{}") is Lane.READER
    assert service.app.lane("POST", path.removesuffix("execute") + "jobs", b"{}") is Lane.OTHER
    assert service.app.lane("POST", path.removesuffix("execute") + "Rows/", b"{}") is Lane.FILE
    service.app._workspace.forget()
    assert service.app.lane("POST", path, b"{}") is Lane.READER
    service.client.score(scorer, [{"x": 1}])
    monkeypatch.setattr(type(service.app), "waits", FaultyApp.waits)
    assert service.app.lane("POST", path, b"{}") is Lane.THREAD
