"""What ``deploy/`` holds: the compose file, the images, the Grafana board."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from airflow.configuration import conf
from jsonschema import Draft7Validator
from starlette.testclient import TestClient

from airflow_provider_azureml_classic.server.settings import TOKEN_VARIABLE, WORKSPACE_VARIABLE
from airflow_provider_azureml_classic.server.settings.options import parsed
from airflow_provider_azureml_classic.server.state.engine import DATABASE_VARIABLE, checked_url
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


#: What ``deploy/.env`` sets, for a test.
SECRETS = {"POSTGRES_PASSWORD": "ab12", "AZUREML_CLASSIC_WORKSPACE": "0" * 32, "AZUREML_CLASSIC_TOKEN": "cd34"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def filled(text: str) -> str:
    """A value of the compose file as compose fills it in: a variable that is not set has its default, or fails."""
    return _VARIABLE.sub(lambda one: SECRETS[one[1]] if one[1] in SECRETS or one[2] != "-" else one[3], text)


def test_the_guide_makes_the_secrets_that_the_file_reads(tmp_path: Path) -> None:
    """Its commands write each variable without a default, beside the compose file, for their owner only."""
    (tmp_path / "deploy").mkdir()
    guide = (ROOT / "docs" / "compose.md").read_text()
    commands = re.search(r"\$ (umask.*?)\n\$ (printf.*?)\n\$ docker compose --file (\S+) up", guide, re.S)
    assert commands
    assert (ROOT / commands[3]).samefile(DEPLOY / "compose.yaml")
    subprocess.run(["bash", "-euc", f"{commands[1]}\n{commands[2]}"], cwd=tmp_path, check=True, timeout=60)
    file = tmp_path / "deploy" / ".env"
    lines = dict(line.split("=", 1) for line in file.read_text().splitlines())
    named = _VARIABLE.findall((DEPLOY / "compose.yaml").read_text())
    assert set(lines) == set(SECRETS) == {name for name, sign, _ in named if sign != "-"}
    assert all(re.fullmatch("[0-9a-f]{32,64}", value) for value in lines.values())
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_server_of_the_compose_file_can_start(compose: dict[str, Any], service: Service) -> None:
    """It knows these options and variables; what the health check asks for is answered at its port, to everybody."""
    image, one = (DEPLOY / "Containerfile").read_text(), compose["services"]["server"]
    entry = json.loads(re.search(r"^ENTRYPOINT (.*)$", image, re.M)[1])  # type: ignore[index]
    options = parsed([*entry[1:], *map(filled, one["command"])])
    assert options.public_url == json.loads(airflow_connection(compose))["host"]
    assert f"VOLUME {options.data_dir}\n" in image
    assert [volume.partition(":")[2] for volume in one["volumes"]] == [str(options.data_dir)]
    assert f"EXPOSE {options.port}\n" in image
    variables = {DATABASE_VARIABLE, WORKSPACE_VARIABLE, TOKEN_VARIABLE}
    assert set(one["environment"]) == variables
    database = urlsplit(checked_url(filled(one["environment"][DATABASE_VARIABLE])))
    assert f"DATABASE {database.path[1:]} OWNER {database.username};" in (DEPLOY / "databases.sql").read_text()
    check = one["healthcheck"]["test"][1:]
    assert json.loads(re.search(r"^ +CMD (.*)$", image, re.M)[1]) == check  # type: ignore[index]
    compile(check[-1], "health check", "exec")
    address = urlsplit(re.search(r"'(http:[^']*)'", check[-1])[1])  # type: ignore[index]
    assert address.port == options.port
    assert TestClient(service.http, base_url=BASE).get(address.path).status_code == 200


def airflow_connection(compose: dict[str, Any]) -> str:
    """The connection that Airflow gets, filled in."""
    return filled(compose["services"]["airflow"]["environment"]["AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT"])


def test_airflow_of_the_compose_file_knows_its_settings(compose: dict[str, Any]) -> None:
    """Each variable is an option that Airflow has; DAGs are mounted where it looks; the guide names the right ports."""
    one, guide = compose["services"]["airflow"], (ROOT / "docs" / "compose.md").read_text()
    settings = {name: value for name, value in one["environment"].items() if name.startswith("AIRFLOW__")}
    for name in settings:
        section, _, option = name.removeprefix("AIRFLOW__").lower().partition("__")
        assert option in conf.configuration_description[section]["options"], name
    assert f"../dags:{settings['AIRFLOW__CORE__DAGS_FOLDER']}:ro" in one["volumes"]
    database = urlsplit(filled(settings["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]))
    assert database.path[1:] == compose["services"][database.hostname]["environment"]["POSTGRES_DB"]
    for name, what in (("airflow", "Airflow"), ("server", "the server")):
        [port] = compose["services"][name]["ports"]
        address, _, inner = port.rpartition(":")
        assert (f"| `http://{address}` | {what}" in guide, inner) == (True, "8080")


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
