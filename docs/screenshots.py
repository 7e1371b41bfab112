"""Takes the pictures of the portal that are in docs/images: ``make screenshots``.

Starts a server with a data directory of its own, gives it some endpoints and retrains, and drives a headless Chromium
through its pages.
"""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, Resource
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, write_csv

IMAGES = Path(__file__).with_name("images")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--hide-scrollbars"]
SCORING = "Bike Rental [predictive exp.]"
CITIES = ("amsterdam", "boston", "chicago", "denver", "helsinki", "lisbon", "lyon", "oslo", "porto", "turin", "vienna")
TOKEN = "token-of-the-pictures"  # noqa: S105 - of a server that lives for a minute
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A running server; gives its address.

    :param folder: for its data.
    """
    command = [
        sys.executable,
        "-m",
        "airflow_provider_azureml_classic.server",
        "--data-dir",
        str(folder),
        "--port",
        "0",
    ]
    environment = {"AZUREML_CLASSIC_TOKEN": TOKEN, "AZUREML_CLASSIC_WORKSPACE": "0" * 32, "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)  # noqa: S603 - our own
    try:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait(20)


def rentals(until: date, days: int) -> str:
    """Training data as CSV.

    :param until: the day after the last.
    :param days: how many.
    """
    stream = io.StringIO()
    write_csv(bike_rentals(until - timedelta(days=days), days, locations=1), stream)
    return stream.getvalue()


class Story:
    """Endpoints with a past.

    :param url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.client = Client(url, "0" * 32, TOKEN)
        self.training = self.client.find_web_service("Bike Rental")
        self.scoring = self.client.find_web_service(SCORING)
        self.today = datetime.now(UTC).date()

    def tell(self) -> None:
        """Let it all happen."""
        for number, name in enumerate(CITIES):
            settings = EndpointSettings(description=f"Rentals of {name.title()}")
            self.client.add_endpoint(self.scoring.id, name, settings)
            if number % 4 != 3 and name != "chicago":
                self.retrain(name, days_ago=1 + number * 2)
        self.retrain("denver", days_ago=3, fails=True)
        for weeks in range(9, 0, -1):
            self.retrain("chicago", days_ago=7 * weeks - 6, days=60 - 4 * weeks, use=weeks not in (4, 7))
        self.call("chicago")

    def retrain(self, name: str, *, days_ago: int, days: int = 20, use: bool = True, fails: bool = False) -> None:
        """Train a model for an endpoint and put it live; or try it on data without the column to be predicted."""
        until = self.today - timedelta(days=days_ago)
        trainer = self.client.get_endpoint(self.training.id, "default")
        place = f"models/{name}/{until:%Y%m%d}T000000Z.ilearner"
        rows = rentals(until, days)
        rows = rows.replace("cnt", "count", 1) if fails else rows
        source = self.upload(f"data/{name}/{until:%Y%m%d}.csv", rows)
        job_id = self.client.submit_job(trainer, JobRequest({"input1": source}, {"output1": BlobReference(place)}))
        self.client.start_job(trainer, job_id)
        while not (job := self.client.get_job(trainer, job_id)).status.terminal:
            time.sleep(0.1)
        if fails:
            return
        if job.status is not JobStatus.FINISHED:
            raise RuntimeError(f"the training failed: {job.details}")
        if use:
            resource = Resource("Bike Rental [trained model]", job.results["output1"])
            endpoint = self.client.get_endpoint(self.scoring.id, name)
            self.client.patch_endpoint(endpoint, EndpointSettings(resources=(resource,)))

    def upload(self, path: str, text: str) -> BlobReference:
        """Put a file into the server's store, by its connection string."""
        from airflow_provider_azureml_classic.protocol.sas import StorageAccount, sign

        account = StorageAccount.from_connection_string(self.storage)
        now = datetime.now(UTC)
        container, _, blob = path.partition("/")
        span = {"start": now - timedelta(minutes=5), "expiry": now + timedelta(hours=1)}
        token = sign(account, container, blob, permissions="rcw", **span)
        reference = BlobReference(path, account.endpoint, token).normalised()
        self.client.store_blob(reference, text.encode())
        return BlobReference(path)

    storage = ""

    def call(self, name: str) -> None:
        """Score some rows, as a customer would."""
        endpoint = self.client.get_endpoint(self.scoring.id, name)
        rows = list(csv.DictReader(io.StringIO(rentals(self.today, 2))))
        for row in rows * 4:
            self.client.score(endpoint, [{key: cell for key, cell in row.items() if key not in ("cnt", "dteday")}])


def signed_in(browser: Browser, url: str, **options: Any) -> Page:
    """A page of a browser that is signed in.

    :param browser: any.
    :param url: of the server.
    :param options: of the browser's context.
    """
    page = browser.new_context(**options).new_page()
    page.goto(f"{url}/portal/sign-in")
    page.fill("#token", TOKEN)
    page.click("text=Sign in >> visible=true >> nth=-1")
    page.wait_for_url("**/portal/services")
    return page


def pictures(browser: Browser, url: str, story: Story) -> None:
    """Take them.

    :param browser: any.
    :param url: of the server.
    :param story: what to see.
    """
    service = f"{url}/portal/services/{story.scoring.id}"
    wanted = {
        "portal-home": (f"{url}/portal/services", DESKTOP, "light"),
        "portal-service": (service, DESKTOP, "light"),
        "portal-endpoint": (f"{service}/endpoints/chicago", {**DESKTOP, "height": 1120}, "light"),
        "portal-endpoint-dark": (f"{service}/endpoints/chicago", {**DESKTOP, "height": 1120}, "dark"),
        "portal-phone": (f"{service}/endpoints/chicago", PHONE, "light"),
        "portal-training": (f"{url}/portal/services/{story.training.id}", DESKTOP, "light"),
    }
    IMAGES.mkdir(exist_ok=True)
    for name, (address, size, scheme) in wanted.items():
        page = signed_in(browser, url, viewport=size, color_scheme=scheme)
        page.goto(address)
        page.screenshot(path=IMAGES / f"{name}.png")
        page.context.close()


def main() -> int:
    """Take all pictures; returns the exit status."""
    program = shutil.which("chromium")
    if program is None:
        print("Chromium is missing: install the package chromium.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "data") as url:
        story = told(Path(folder) / "data", url)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=program, args=ARGUMENTS)
            pictures(browser, url, story)
            browser.close()
    return 0


def told(data_dir: Path, url: str) -> Story:
    """A story that has happened.

    :param data_dir: of the server.
    :param url: of the server.
    """
    import json

    connection = json.loads(json.loads((data_dir / "connection.json").read_text())["airflow_conn"])
    story = Story(url)
    story.storage = connection["extra"]["storage_connection_string"]
    story.tell()
    return story


if __name__ == "__main__":
    sys.exit(main())
