"""What runs leave behind holds no secret; runs after the other tests of this folder, and looks at all they left."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.standalone.airflow import Airflow
from tests.standalone.service import Service
from tests.support.postgres import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("standalone")]

#: A SAS signature, as text or in a URL.
_SIGNATURE = re.compile(rb"sig=(?!\*\*\*)[A-Za-z0-9%+/]{16,}")


def secrets_of(service: Service) -> dict[str, bytes]:
    """Every secret that a task can have seen."""
    found = {"the workspace token": service.process.connection["token"], "the account key": service.process.account.key}

    def keys(client: Any) -> dict[str, str]:
        return {
            f"{which} of {endpoint.name!r}": key
            for web_service in client.list_web_services()
            for endpoint in client.list_endpoints(web_service.id)
            for which, key in (("primary key", endpoint.primary_key), ("secondary key", endpoint.secondary_key))
        }

    found |= service.ask(keys)
    assert all(len(value) > 40 for value in found.values())
    return {name: value.encode() for name, value in found.items()}


def files_with(folder: Path, secrets: dict[str, bytes]) -> list[str]:
    """Which file holds which secret: a dump of the database, logs, and whatever else there is."""
    found = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found += [f"{path.relative_to(folder)}: {name}" for name, value in secrets.items() if value in content]
        found += [f"{path.relative_to(folder)}: {match[0]!r}" for match in _SIGNATURE.finditer(content)]
    return found


def unescaped(dump: bytes) -> bytes:
    """What the dump's binary columns hold."""
    return b" ".join(bytes.fromhex(match[1].decode()) for match in re.finditer(rb"\\\\x((?:[0-9a-f]{2})+)", dump))


def test_no_secret_is_left_behind(airflow: Airflow, service: Service, metadata: Cluster) -> None:
    """No token, key or SAS signature is in the metadata database, the logs, or any other file of the instance."""
    # The other tests have left plenty; alone, it needs a run of its own.
    service.hold("secrets")
    service.release("secrets")
    airflow.trigger("inworker", "secrets", endpoint="secrets")
    airflow.wait_for_task("inworker", "secrets", "success")
    secrets = secrets_of(service)
    dump = metadata.dump(airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].rpartition("/")[2])
    # Tables that a secret could be in, with what the stories left there.
    for table in ("xcom", "rendered_task_instance_fields", "log", "task_state_store", "asset_event"):
        assert re.search(rb"COPY public\." + table.encode() + rb" \(.*\n(?!\\\.)", dump), table
    (airflow.home / "metadata.sql").write_bytes(dump + unescaped(dump))
    assert files_with(airflow.home, secrets) == []
    assert [name for name, value in secrets.items() if value in airflow.output.read_bytes()] == []


def test_the_search_finds_secrets(service: Service, tmp_path: Path) -> None:
    """The same search does find a key, a token and a SAS signature that are there."""
    secrets = secrets_of(service)
    token = service.process.sas("container/file.csv").sas_token
    (tmp_path / "log").write_bytes(b" ".join(secrets.values()) + token.encode())
    assert len(files_with(tmp_path, secrets)) == len(secrets) + 1
