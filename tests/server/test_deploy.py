"""What ``deploy/`` holds: the compose file, the images, the Grafana board."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from starlette.testclient import TestClient

from tests.support import ROOT
from tests.support.portal import BASE
from tests.support.service import TOKEN, Service

DEPLOY = ROOT / "deploy"
_TEXT, _TEXTS = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
#: What the compose specification allows, as far as the file uses it; anything else is refused.
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "image": _TEXT,
        "build": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"context": _TEXT, "dockerfile": _TEXT},
        },
        "command": {"anyOf": [_TEXT, _TEXTS]},
        # A value that YAML takes for a number or a truth would become another text.
        "environment": {"type": "object", "additionalProperties": _TEXT},
        "volumes": _TEXTS,
        "ports": _TEXTS,
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
            },
        },
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"test": _TEXTS, "interval": _TEXT, "retries": {"type": "integer"}},
        },
        "read_only": {"type": "boolean"},
        "tmpfs": _TEXTS,
        "cap_drop": _TEXTS,
        "security_opt": _TEXTS,
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
    },
    "oneOf": [{"required": ["image"]}, {"required": ["build"]}],
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "object"}},
    },
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The compose file."""
    document: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return document


def test_the_compose_file_follows_the_schema(compose: dict[str, Any]) -> None:
    """Every member is one of the specification, of its type; ports are this machine's alone."""
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(compose)] == []
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_what_the_compose_file_names_is_there(compose: dict[str, Any]) -> None:
    """Build files, mounted files, named volumes and the services that others wait for, which have a health check."""
    services = compose["services"]
    for service in services.values():
        if build := service.get("build"):
            assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).exists() if source.startswith(".") else source in compose["volumes"]
        for name, wait in service.get("depends_on", {}).items():
            build = services[name].get("build", {})
            checked = "healthcheck" in services[name] or "HEALTHCHECK" in (ROOT / build["dockerfile"]).read_text()
            assert checked or wait["condition"] != "service_healthy"


def test_what_the_images_copy_is_there() -> None:
    """Each file that a build takes from the repository is in it, and the wheel's build reads nothing else."""
    for name in ("Containerfile", "airflow.Containerfile"):
        copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / name).read_text(), re.M)
        names = {part for line in copied for part in line.split()}
        assert [part for part in names if not (ROOT / part).exists()] == []
        assert names >= {"pyproject.toml", "setup.cfg", "MANIFEST.in", "README.md", "dags"}
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
    assert locked
    assert f"airflow:{locked[1]}-" in (DEPLOY / "airflow.Containerfile").read_text()


def test_the_connection_is_one(compose: dict[str, Any]) -> None:
    """Airflow gets the workspace and the token of the server, as JSON that it can read."""
    airflow, server = (compose["services"][name]["environment"] for name in ("airflow", "server"))
    connection = json.loads(airflow["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"])
    assert connection["conn_type"] == "azureml_classic"
    assert connection["host"] == "http://server:8080"
    for name, member in (("AZUREML_CLASSIC_WORKSPACE", "login"), ("AZUREML_CLASSIC_TOKEN", "password")):
        assert connection[member] == f"${{{name}}}"
        assert server[name].startswith(f"${{{name}:?")


def test_the_board_shows_what_the_server_counts(service: Service) -> None:
    """Every metric in a query of the Grafana board is one of /metrics, and every one of /metrics is on the board."""
    http = TestClient(service.http, base_url=BASE)
    text = http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
    families = set(re.findall(r"^# TYPE (azureml_classic_\w+)", text, re.M))
    board = json.loads((DEPLOY / "grafana.json").read_text())
    queries = " ".join(target["expr"] for panel in board["panels"] for target in panel["targets"])
    named = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"azureml_classic_\w+", queries)}
    assert named == families
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
