"""``make demo``: watch a real Airflow DAG retrain a real model, day after day, and put it live."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, sign
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.freshness import to_utc
from demo.days import Day, from_file, generated
from demo.processes import ROOT, Airflow, DemoError, airflow, server

HOME = ROOT / ".demo"
SERVICE, ENDPOINT, CONTAINER = "Bike Rental [predictive exp.]", "bikes", "bike-rental"
#: Check rows of a day below which its error is mostly chance.
FEW = 50
HEADINGS = ("day", "rows", "job", "old model", "retrained", "change", "live model is trained to", "proof", "seconds")


def main() -> int:
    """Run the demonstration; returns its exit status."""
    arguments = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A process that a script starts in the background ignores SIGINT unless it says otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with alone():
            demonstrate(arguments)
    except KeyboardInterrupt:
        print("\nStopped. Nothing is left running.")
        return 128 + signal.SIGINT
    except (DemoError, ValueError, AzureMLClassicError) as error:
        print(f"\nThe demonstration failed: {error}\nNothing is left running. Logs: {HOME}/*.log", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    made.add_argument("--data", type=Path, help="your own CSV file with the columns dteday and cnt")
    made.add_argument("--days", type=int, default=5, choices=range(1, 32), metavar="N", help="days (default: 5)")
    made.add_argument("--port", type=int, default=0, help="the server's port (default: any free one)")
    return made


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep a second demonstration from taking this one's folder away.

    :raises DemoError: one is running.
    """
    with (ROOT / ".demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError("another demonstration is running in this folder; wait for it, or stop it.") from None
        yield


def demonstrate(arguments: argparse.Namespace) -> None:
    """Start the server and Airflow, run the days, print the table.

    :param arguments: parsed.
    """
    days = from_file(arguments.data, arguments.days) if arguments.data else generated(arguments.days)
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(mode=0o700)
    began = time.monotonic()
    step("Starting the server (it trains the first models) ...")
    with server(HOME, arguments.port) as connection:
        client = Client(connection["management_url"], connection["workspace_id"], connection["token"])
        step(f"The server is ready at {connection['management_url']}. Preparing a private Airflow ...")
        with client, airflow(HOME, connection) as flow:
            flow.answer()
            runs = time.monotonic()
            table = [list(HEADINGS)]
            for number, day in enumerate(days, 1):
                step(f"Day {number} of {len(days)}, {day.day}: DAG bike_rental_retrain on {day.rows} rows ...")
                table.append(one_day(client, flow, connection, day))
            seconds = time.monotonic() - runs
    step(f"Done: {len(days)} DAG runs in {seconds:.0f} s, {time.monotonic() - began:.0f} s in all.\n")
    show(table)
    if min(len(day.truth) for day in days) < FEW:
        print(f"The days have fewer than {FEW} check rows each, so single errors say little; look at all of them.")
    print("Nothing is left running.")


def one_day(client: Client, flow: Airflow, connection: dict[str, str], day: Day) -> list[str]:
    """Put the day's data in place, run the DAG, and measure the model before and after on rows that neither saw.

    :param client: of the server.
    :param flow: the private Airflow.
    :param connection: the server's ``connection.json``.
    :param day: the day.
    """
    upload(client, connection, f"{CONTAINER}/{day.day}.csv", day.training)
    old = error_of(client, day)
    began = time.monotonic()
    outcome = flow.run(day.day.isoformat())
    seconds = time.monotonic() - began
    if outcome["state"] != "success":
        bad = ", ".join(f"{task} {state}" for task, state in outcome["tasks"].items() if state != "success")
        raise DemoError(f"the DAG run of {day.day} ended {outcome['state']} ({bad}); see {HOME / 'airflow.log'}.")
    if not outcome["tasks"]:
        raise DemoError(f"{day.day} is before the start_date of the DAG, so that its run had no tasks.")
    new = error_of(client, day)
    receipt = outcome["receipt"]
    return [
        str(day.day),
        str(day.rows),
        outcome["job"]["job_id"][:8],
        f"{old:.1f}",
        f"{new:.1f}",
        f"{(new - old) / old:+.0%}",
        f"{to_utc(receipt['window']['end']):%Y-%m-%d %H:%M}",
        receipt["proof"]["level"],
        f"{seconds:.1f}",
    ]


def upload(client: Client, connection: dict[str, str], path: str, content: bytes) -> None:
    """Put a file into the server's own store, as any Azure Storage client would.

    :param client: of the server.
    :param connection: the server's ``connection.json``.
    :param path: ``container/file``.
    :param content: the file.
    """
    extra = json.loads(connection["airflow_conn"])["extra"]
    account = StorageAccount.from_connection_string(extra["storage_connection_string"])
    container, _, blob = path.partition("/")
    expiry = datetime.now(UTC) + timedelta(minutes=10)
    token = sign(account, container, blob, permissions="cw", expiry=expiry)
    client.store_blob(BlobReference(path, account.endpoint, token).normalised(), content)


def live_endpoint(client: Client) -> Endpoint:
    """The endpoint of the demonstration, or the default one with the first model before it is added.

    :param client: of the server.
    """
    service = client.find_web_service(SERVICE)
    try:
        return client.get_endpoint(service.id, ENDPOINT)
    except NotFound:
        return client.get_endpoint(service.id, service.default_endpoint_name)


def error_of(client: Client, day: Day) -> float:
    """Mean absolute error of the live model on the day's check rows, through the scoring service.

    :param client: of the server.
    :param day: the day.
    """
    answers = client.score(live_endpoint(client), day.check).column("Scored Labels")
    errors = [abs(float(answer) - truth) for answer, truth in zip(answers, day.truth, strict=True)]
    return sum(errors) / len(errors)


def step(text: str) -> None:
    """Tell what is being done."""
    print(text, flush=True)


def show(table: list[list[str]]) -> None:
    """Print the table and where to look next.

    :param table: headings, then rows.
    """
    widths = [max(len(row[i]) for row in table) for i in range(len(HEADINGS))]
    for number, row in enumerate(table):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
        if number == 0:
            print("  ".join("-" * width for width in widths))
    print(
        "\nold model, retrained: mean error in rentals an hour, on rows of the new day that neither model was trained "
        "on,\nmeasured through the scoring endpoint before and after the DAG run. proof: how the update was seen to be "
        f"live.\n\nWhere to look next:\n  {ROOT / 'dags' / 'bike_rental_retrain.py'}   the DAG that ran\n"
        f"  {HOME / 'airflow.log'}   what its tasks said\n"
        f"  {HOME / 'server' / 'blobs' / 'models'}   the models, one for each day\n"
        "  make serve   the server alone, with the connection for your own Airflow"
    )


if __name__ == "__main__":
    sys.exit(main())
