"""The page in Airflow's UI: a real API server with its login, a real metadata database, a real service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from airflow_provider_azureml_classic.assets import endpoint_asset
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, Resource
from tests.standalone.airflow import free_ports
from tests.support import BIKES_SCORING, ServerProcess, wait_for_job
from tests.support.verbs import submitted

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plugin")]

WINDOW = "20260301T000000Z"
#: Leaves the event that an update leaves, and a DAG that the reader may see.
RECORD = """
import sys
from airflow.models.asset import AssetEvent, AssetModel
from airflow.models.dag import DagModel
from airflow.models.dagbundle import DagBundleModel
from airflow.utils.session import create_session
with create_session() as session:
    session.merge(DagBundleModel(name="dags-folder"))
    session.flush()
    session.add(DagModel(dag_id="weekly<i>", bundle_name="dags-folder"))
    asset = AssetModel(name=sys.argv[1], uri=sys.argv[1])
    session.add(asset)
    session.flush()
    for dag, run in (("weekly<i>", "first"), ("weekly<i>", "scheduled__1"), ("gone", "unseen")):
        session.add(AssetEvent(asset_id=asset.id, source_dag_id=dag, source_run_id=run))
        session.flush()
"""


class ApiServer:
    """``airflow api-server`` with an administrator and a viewer.

    :param home: its ``AIRFLOW_HOME``.
    :param connection: the connection ``azureml_classic_default``.
    """

    def __init__(self, home: Path, connection: str) -> None:
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "boss:admin,guest:viewer",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": connection,
            "AIRFLOW_CONN_OTHER": "http://other.example",
        }
        self.log = home.with_suffix(".log")

    def start(self) -> None:
        """Make the database, start, and wait for the first answer."""
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=self.environment, check=True, **QUIET)
        port = self.url.rpartition(":")[2]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "airflow", "api-server", "--workers", "1", "--host", "127.0.0.1", "-p", port],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + 180
        while True:
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            try:
                requests.get(f"{self.url}/api/v2/version", timeout=10)
                break
            except requests.ConnectionError:
                time.sleep(0.2)
        self.passwords = json.loads((self.home / "simple_auth_manager_passwords.json.generated").read_text())

    def session(self, user: str) -> requests.Session:
        """A browser's session after signing in."""
        made = requests.Session()
        data = {"username": user, "password": self.passwords[user]}
        answer = made.post(f"{self.url}/auth/token", json=data, timeout=30)
        made.cookies.set("_token", answer.json()["access_token"])
        return made

    def stop(self) -> None:
        """End it with all its processes."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture(scope="module")
def page(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """Airflow with an endpoint that one of its runs has updated."""
    running = ApiServer(tmp_path_factory.mktemp("plugin") / "home", server.connection["airflow_conn"])
    running.start()
    with server.client() as client:
        trainer, job_id = submitted(server, client)
        client.start_job(trainer, job_id)
        job = wait_for_job(client, trainer, job_id)
        model = client.fetch_blob(job.output(extension=".ilearner")[1])
        service = client.find_web_service(BIKES_SCORING)
        for name, path in (("plugin", f"models/plugin/{WINDOW}.ilearner"), ("windowless", "models/plugin.ilearner")):
            endpoint = client.add_endpoint(service.id, name, EndpointSettings(description="<script>alert(1)</script>"))
            settings = EndpointSettings(resources=(Resource(endpoint.resource().name, server.upload(path, model)),))
            client.patch_endpoint(endpoint, settings)
    asset = endpoint_asset(
        management_url=server.url,
        workspace_id=server.connection["workspace_id"],
        web_service=BIKES_SCORING,
        endpoint="plugin",
    )
    record = [sys.executable, "-c", RECORD, asset.uri]
    subprocess.run(record, env=running.environment, check=True, **QUIET)
    yield running
    running.stop()


def test_page_lists_endpoints_with_age_and_run(page: ApiServer, server: ServerProcess) -> None:
    """Each endpoint with its model's window, and the last run that the reader may see; no secret on the page."""
    answer = page.session("boss").get(f"{page.url}/azureml-classic/?search=plugin&max_age=36500", timeout=60)
    text = answer.text
    assert answer.status_code == 200
    assert "2026-03-01 00:00 UTC" in text
    assert '<span class="state fresh">fresh</span>' in text
    assert "models/plugin/20260301T000000Z.ilearner" in text.replace("<wbr>", "")
    assert "../dags/weekly%3Ci%3E/runs/scheduled__1" in text
    assert "/portal/services/" in text
    assert "unseen" not in text
    assert "windowless" not in text
    assert "<script" not in text
    assert "<i>" not in text
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    with server.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "plugin")
    for secret in (*endpoint.secrets, server.connection["token"], server.account.key, "sig="):
        assert secret not in text


def test_limit_and_age(page: ApiServer, server: ServerProcess) -> None:
    """The reader's limit decides what is stale, else the endpoint's, else a week; a model whose path names no window is
    as old as its data.
    """
    boss = page.session("boss")
    stale = boss.get(f"{page.url}/azureml-classic/?search=plugin&max_age=0.5", timeout=60).text
    assert '<span class="state stale">stale</span>' in stale
    assert "1 stale" in stale
    windowless = boss.get(f"{page.url}/azureml-classic/?search=windowless", timeout=60).text
    assert "names no training window" not in windowless
    assert '<span class="state stale">stale</span>' in windowless
    with server.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(BIKES_SCORING).id, "windowless")
        client.patch_endpoint(endpoint, EndpointSettings(stale_after=timedelta(days=3660)))
    windowless = boss.get(f"{page.url}/azureml-classic/?search=windowless", timeout=60).text
    assert '<span class="state fresh">fresh</span>' in windowless
    wrong = boss.get(f"{page.url}/azureml-classic/?max_age=x", timeout=60).text
    assert "expected a number over 0" in wrong


def test_only_for_those_who_may_read_connections(page: ApiServer) -> None:
    """Without a sign-in 401, as a viewer 403, and the style sheet for everybody."""
    assert requests.get(f"{page.url}/azureml-classic/", timeout=60).status_code == 401
    assert page.session("guest").get(f"{page.url}/azureml-classic/", timeout=60).status_code == 403
    assert requests.get(f"{page.url}/azureml-classic/style.css", timeout=60).status_code == 200


def test_mistakes_are_sentences(page: ApiServer) -> None:
    """An unknown connection, one of another type, and a search that finds nothing."""
    boss = page.session("boss")
    for other in ("missing", "other"):
        text = boss.get(f"{page.url}/azureml-classic/?conn_id={other}", timeout=60).text
        assert f"There is no connection &#39;{other}&#39; of type azureml_classic" in text
    nothing = boss.get(f"{page.url}/azureml-classic/?search=nobodyhasthis", timeout=60).text
    assert "No endpoint&#39;s name has" in nothing or "No endpoint's name has" in nothing


def test_airflow_shows_it_in_its_menu(page: ApiServer) -> None:
    """Airflow has loaded the plugin and offers its view."""
    plugins = page.session("boss").get(f"{page.url}/api/v2/plugins", timeout=60).json()["plugins"]
    [ours] = [plugin for plugin in plugins if plugin["name"] == "azureml_classic"]
    assert [view["href"] for view in ours["external_views"]] == ["/azureml-classic/"]
