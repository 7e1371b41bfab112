"""Takes the pictures of Airflow that are in docs/images: ``make screenshots``.

Starts a server and a whole Airflow of its own, lets two of the shipped DAGs run, and drives a headless Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from airflow_provider_azureml_classic.server import quickstart  # noqa: E402
from docs.screenshots import ARGUMENTS, IMAGES  # noqa: E402
from tests.standalone.airflow import Airflow, running  # noqa: E402
from tests.support import ServerProcess  # noqa: E402
from tests.support.postgres import cluster  # noqa: E402

CUSTOMERS = ["contoso", "fabrikam", "northwind"]
SIZE = {"width": 1280, "height": 800}
#: Milliseconds that a page may take, on a busy machine.
PATIENCE = 120_000
RUN = "/dags/first_retrain/runs/monday"
#: Pictures: the address, and a text that is there once the page is complete.
WANTED = {
    "airflow-run": (RUN, "upload"),
    "airflow-endpoints": ("/plugin/azureml-classic-endpoints", "northwind"),
}


def told(folder: Path, server: ServerProcess, airflow: Airflow) -> None:
    """Two DAGs run: one endpoint of its own, and three customers in one task.

    :param folder: of a quickstart, which has the data.
    :param server: the service.
    :param airflow: a running one.
    """
    data = sorted((folder / "bike-rental").iterdir())[-1]
    for name in CUSTOMERS:
        server.upload(f"customers/{name}/rentals.csv", data)
    airflow.trigger("first_retrain", "monday", path=str(folder / "census.csv"))
    airflow.trigger("fleet_retrain", "monday", customers=CUSTOMERS)
    for dag in ("first_retrain", "fleet_retrain"):
        airflow.cli("dags", "unpause", dag)
    for dag in ("first_retrain", "fleet_retrain"):
        airflow.wait_for_run(dag, "monday", "success")


def taken(airflow: Airflow, program: str) -> None:
    """Take the pictures.

    :param airflow: where the DAGs have run.
    :param program: Chromium.
    """
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_context(viewport=SIZE, color_scheme="light").new_page()
        page.set_default_timeout(PATIENCE)
        for name, (path, text) in WANTED.items():
            page.goto(airflow.url + path)
            frame = page.frame_locator("iframe") if path.startswith("/plugin") else page
            frame.get_by_text(text).first.wait_for()
            page.wait_for_load_state("networkidle")
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


def main() -> int:
    """Take all pictures; returns the exit status."""
    program = shutil.which("chromium")
    if program is None:
        print("Chromium is missing: install the package chromium.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as made, cluster() as postgres:
        folder, home = Path(made) / "person", Path(made) / "airflow"
        quickstart.prepare(folder)
        home.mkdir()
        shutil.copytree(folder / "dags", home / "dags")
        server = ServerProcess(Path(made) / "server")
        try:
            connection = {"AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT": server.connection["airflow_conn"]}
            with running(home, postgres.new_database(), connection) as airflow:
                told(folder, server, airflow)
                taken(airflow, program)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
