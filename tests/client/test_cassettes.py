"""The cloud service's hosts, which answer no more: the client's bytes on the wire against composed cassettes."""

from __future__ import annotations

import re

import vcr

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest
from tests.support import ROOT

CASSETTES = ROOT / "tests" / "cassettes"
WORKSPACE = "1c2d3e4f5a6b47c8d9e0f1a2b3c4d5e6"


def test_the_cloud_hosts_are_asked_as_documented():
    """Management on its own host with the token, jobs on the endpoint's host with its key; no call but these three."""
    player = vcr.VCR(record_mode="none", match_on=["method", "uri", "headers"])
    player.register_matcher("headers", lambda asked, kept: _key(asked) == _key(kept))
    with player.use_cassette(str(CASSETTES / "endpoints.yaml")) as cassette:
        client = Client("https://management.azureml.net", WORKSPACE, "FAKE-WORKSPACE-TOKEN")
        service = client.find_web_service("Churn Model [predictive exp.]")
        endpoint = client.list_endpoints(service.id)[0]
        job = client.submit_job(endpoint, JobRequest())
        client.close()
    assert cassette.all_played
    assert endpoint.resource().location.location == "https://acct.blob.core.windows.net/models/v1.ilearner"
    assert job == "7b6a5948372615f0e1d2c3b4a5968778"


def _key(request) -> str:
    found = {name.lower(): value for name, value in request.headers.items()}["authorization"]
    return found if isinstance(found, str) else found[0]


def test_cassettes_hold_fake_secrets_only():
    """Nothing in a cassette looks like a real key (88 characters of base64) or a SAS signature."""
    real = re.compile(r"[A-Za-z0-9+/]{60,}==|sig=|AccountKey=")
    assert [path.name for path in CASSETTES.iterdir() if real.search(path.read_text())] == []
