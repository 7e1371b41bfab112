"""Clients of the cloud service's time: curl as in the documents, and azmlclient's requests byte for byte."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES, BIKES_SCORING, ServerProcess

RESOURCE = f"{BIKES} [trained model]"
COLUMNS = "season,yr,mnth,hr,holiday,weekday,workingday,weathersit,temp,atemp,hum,windspeed"
ROW = "1,0,1,0,0,6,0,1,0.24,0.2879,0.81,0.0"
#: Training data in which every hour has the same number of rentals, so that its model cannot be mistaken.
HOURS = f"dteday,{COLUMNS},cnt\n" + "".join(f"2011-02-{day:02},{ROW},777\n" for day in range(1, 29))


class Curl:
    """Runs the ``curl`` program.

    :param folder: for bodies.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, method: str, url: str, key: str, *more: str, body: Any = None) -> str:
        """Body of the answer; any status of 400 or more fails."""
        command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "60", "--request", method]
        command += ["--header", f"Authorization: Bearer {key}", *more]
        if body is not None:
            file = self.folder / "body.json"
            file.write_text(json.dumps(body))
            command += ["--header", "Content-Type: application/json", "--data-binary", f"@{file}"]
        done = subprocess.run([*command, url], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def curl(tmp_path: Path) -> Curl:
    """Curl, or skip."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    return Curl(tmp_path)


def scored(text: str) -> float:
    """The only answer of a scoring call."""
    (row,) = json.loads(text)["Results"]["output1"]["value"]["Values"]
    return float(row[0])


@pytest.mark.slow
def test_a_model_is_retrained_with_curl(curl: Curl, server: ServerProcess) -> None:
    """The six core calls, with what the articles tell their readers to type."""
    token = server.connection["token"]
    base = f"{server.url}/workspaces/{server.connection['workspace_id']}/webservices"
    services = {item["Name"]: item["Id"] for item in json.loads(curl("GET", base, token))}
    (trainer, *_) = json.loads(curl("GET", f"{base}/{services[BIKES]}/endpoints", token))
    endpoint_url = f"{base}/{services[BIKES_SCORING]}/endpoints/curl1"
    added = json.loads(curl("PUT", endpoint_url, token, body={"Description": "by curl", "ThrottleLevel": "Low"}))

    rows = {"Inputs": {"input1": {"ColumnNames": COLUMNS.split(","), "Values": [ROW.split(",")]}}}
    execute = f"{added['ApiLocation']}/execute?api-version=2.0&details=true"
    assert scored(curl("POST", execute, added["PrimaryKey"], body=rows)) < 700

    upload = server.sas("curl/hours.csv", "cw").url
    hours = curl.folder / "hours.csv"
    hours.write_text(HOURS)
    curl("PUT", upload, "", "--header", "x-ms-blob-type: BlockBlob", "--data-binary", f"@{hours}")

    connection = {"ConnectionString": server.account.connection_string}
    job = {
        "Inputs": {"input1": {**connection, "RelativeLocation": "curl/hours.csv"}},
        "Outputs": {
            "output1": {**connection, "RelativeLocation": "curl/hours.ilearner"},
            "output2": {**connection, "RelativeLocation": "/curl/evaluation.csv"},
        },
        "GlobalParameters": {},
    }
    jobs, key = f"{trainer['ApiLocation']}/jobs", trainer["PrimaryKey"]
    text = curl("POST", f"{jobs}?api-version=2.0", key, body=job)
    job_id = text.replace('"', "")
    assert text == f'"{job_id}"'
    assert len(job_id) == 32
    assert json.loads(curl("GET", f"{jobs}/{job_id}?api-version=2.0", key))["StatusCode"] == "NotStarted"
    assert curl("POST", f"{jobs}/{job_id}/start?api-version=2.0", key, "--data", "") == ""
    state = polled(lambda: json.loads(curl("GET", f"{jobs}/{job_id}?api-version=2.0", key)))
    assert state["StatusCode"] == "Finished", state["Details"]

    location = state["Results"]["output1"]
    address = location["BaseLocation"] + location["RelativeLocation"] + location["SasBlobToken"]
    curl("GET", address, "", "--output", str(curl.folder / "model"))
    assert (curl.folder / "model").read_bytes().startswith(b"PK")
    curl("PATCH", endpoint_url, added["PrimaryKey"], body={"Resources": [{"Name": RESOURCE, "Location": location}]})
    assert scored(curl("POST", execute, added["SecondaryKey"], body=rows)) == pytest.approx(777, abs=1)
    curl("DELETE", f"{jobs}/{job_id}?api-version=2.0", key)
    curl("DELETE", endpoint_url, token)


def polled(ask: Any) -> dict[str, Any]:
    """The first answer in a terminal state."""
    deadline = time.monotonic() + 60
    while (state := ask())["StatusCode"] in ("NotStarted", "Running"):
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    return dict(state)


# -- azmlclient 2.6.0 ------------------------------------------------------------------------------------------------
# Recorded from the package with requests 2.31; tests/old_clients/azmlclient_check.py runs the package itself.

_HEADERS = "User-Agent: python-requests/2.31.0\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
_HEADERS += "Connection: close\r\n"
_TABLE = (
    '{"Inputs": {"input1": {"ColumnNames": ["season", "yr", "mnth", "hr", "holiday", "weekday", "workingday", '
    '"weathersit", "temp", "atemp", "hum", "windspeed"], "Values": [[1.0, 0.0, 1.0, 0.0, 0.0, 6.0, 0.0, 1.0, 0.24, '
    '0.2879, 0.81, 0.0]]}}, "GlobalParameters": {}}'
)
_SWAGGER = (
    '{"Inputs": {"input1": [{"season": 1, "yr": 0, "mnth": 1, "hr": 0, "holiday": 0, "weekday": 6, "workingday": 0, '
    '"weathersit": 1, "temp": 0.24, "atemp": 0.2879, "hum": 0.81, "windspeed": 0.0}]}, "GlobalParameters": {}}'
)
# Its connection strings have no address: the account's name and key must be enough.
_JOB = (
    '{"Inputs": {"input1": {"ConnectionString": "DefaultEndpointsProtocol=https;AccountName=ACCOUNT;AccountKey=KEY", '
    '"RelativeLocation": "azml/2026-11-23_131027_200117-input-input1.csv"}}, "GlobalParameters": {}, "Outputs": '
    '{"output1": {"ConnectionString": "DefaultEndpointsProtocol=https;AccountName=ACCOUNT;AccountKey=KEY", '
    '"RelativeLocation": "azml/2026-11-23_131027_200117-output-output1.csv"}}}'
)


class Azmlclient:
    """Sends what azmlclient sends.

    :param endpoint: the endpoint that it is configured for.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._parts = urlsplit(endpoint.api_location)
        self._key = endpoint.primary_key

    def __call__(self, method: str, path: str, body: str | None = None) -> str:
        """Body of the answer, which must be a 200."""
        lines = f"{method} {self._parts.path}{path} HTTP/1.1\r\nHost: {self._parts.netloc}\r\n{_HEADERS}"
        lines += f"Authorization: Bearer {self._key}\r\n"
        if body is not None:
            lines += "Content-Type: application/json; charset=utf-8\r\n"
        if method != "GET":
            lines += f"Content-Length: {len(body or '')}\r\n"
        with socket.create_connection((self._parts.hostname, self._parts.port), timeout=60) as connection:
            connection.sendall(f"{lines}\r\n{body or ''}".encode())
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        top, _, text = received.partition(b"\r\n\r\n")
        assert top.startswith(b"HTTP/1.1 200 "), received
        return text.decode()


def test_azmlclients_request_response_calls(client: Client) -> None:
    """Both forms; it insists on ``type`` being ``table`` and on a value for each column."""
    endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")
    send = Azmlclient(endpoint)
    table = json.loads(send("POST", "/execute?api-version=2.0&details=true", _TABLE))["Results"]["output1"]
    assert (table["type"], sorted(table["value"])) == ("table", ["ColumnNames", "ColumnTypes", "Values"])
    rows = json.loads(send("POST", "/execute?api-version=2.0&details=true&format=swagger", _SWAGGER))
    assert rows == {"Results": {"output1": [{"Scored Labels": table["value"]["Values"][0][0]}]}}


@pytest.mark.slow
def test_azmlclients_batch_calls(client: Client, server: ServerProcess) -> None:
    """Create, start, poll and delete; the id is unquoted by cutting its first and last character off."""
    endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "default")
    send = Azmlclient(endpoint)
    server.upload("azml/2026-11-23_131027_200117-input-input1.csv", f"{COLUMNS}\n{ROW}\n")
    job = _JOB.replace("ACCOUNT", server.account.name).replace("KEY", server.account.key)
    text = send("POST", "/jobs?api-version=2.0", job)
    assert text.startswith('"')
    assert text.endswith('"')
    job_id = text[1:-1]
    assert send("POST", f"/jobs/{job_id}/start?api-version=2.0") == ""
    state = polled(lambda: json.loads(send("GET", f"/jobs/{job_id}?api-version=2.0")))
    assert state["StatusCode"] == "Finished", state["Details"]
    assert send("DELETE", f"/jobs/{job_id}?api-version=2.0") == ""
    output = client.fetch_blob(server.sas("azml/2026-11-23_131027_200117-output-output1.csv"))
    assert output.decode().splitlines()[0] == "Scored Labels"
