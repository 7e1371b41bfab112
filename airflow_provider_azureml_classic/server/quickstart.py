"""``azureml-classic-server quickstart``: a folder with all that a first hour needs, and what to do with it."""

from __future__ import annotations

import argparse
import shlex
import shutil
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from airflow_provider_azureml_classic.protocol.operations import PORTAL
from airflow_provider_azureml_classic.server.experiments.datasets import bike_rentals, census, write_csv
from airflow_provider_azureml_classic.server.folders import LOCK
from airflow_provider_azureml_classic.server.portal.entrance import CODE_LIFE
from airflow_provider_azureml_classic.server.settings import Settings

_DISTRIBUTION = "airflow-provider-azureml-classic"
_FIRST_DAG = "first_retrain.py"
#: People in the sample file: enough to train in a second, and to hold rows out.
_ROWS = 4000
#: Days up to yesterday that have a file for ``bike_rental_retrain``, and the days of rentals in each.
_DAYS, _WINDOW = 7, 14


def parser() -> argparse.ArgumentParser:
    """The arguments of ``azureml-classic-server quickstart``."""
    options = argparse.ArgumentParser(
        prog="azureml-classic-server quickstart",
        description="Start a server in a folder of its own, with sample data, DAGs and a connection for Airflow, and "
        "say what to do next. The folder is kept: the same command goes on with it.",
    )
    options.add_argument(
        "folder", nargs="?", type=Path, default=Path("azureml-classic"), help="created if absent (default: %(default)s)"
    )
    # The server's usual port is that of Airflow's own pages.
    options.add_argument("--port", type=int, default=8090, help="0 = any free one (default: %(default)s)")
    return options


def prepare(folder: Path) -> None:
    """Write the sample data and the DAGs, unless they are there.

    :param folder: created if absent.
    :raises ValueError: it is no folder, or has files that an earlier quickstart did not write.
    :raises OSError: it cannot be written.
    """
    _check(folder)
    dags, data = folder / "dags", folder / "census.csv"
    dags.mkdir(parents=True, exist_ok=True)
    for source in _shipped_dags():
        if not (dags / source.name).exists():
            shutil.copyfile(source, dags / source.name)
    if not data.exists():
        with data.open("w", newline="") as stream:
            write_csv(census(_ROWS, seed=7), stream)
    _write_rentals(folder / "bike-rental", datetime.now(UTC).date())


def _write_rentals(folder: Path, today: date) -> None:
    """A file for each of the last days: days that were not yet over when the folder was made are added later."""
    folder.mkdir(exist_ok=True)
    for back in range(1, _DAYS + 1):
        day = today - timedelta(days=back)
        if not (path := folder / f"{day}.csv").exists():
            with path.open("w", newline="") as stream:
                write_csv(bike_rentals(day - timedelta(days=_WINDOW - 1), _WINDOW, locations=4), stream)


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file. Name a new folder, or an empty one.")
    ours = (folder / "dags" / _FIRST_DAG, folder / "data" / LOCK)
    if folder.exists() and any(folder.iterdir()) and not any(path.exists() for path in ours):
        raise ValueError(
            f"{folder} has files in it that no quickstart wrote. Name a new folder, or an empty one, for example "
            f"{folder / 'azureml-classic'}."
        )


def _shipped_dags() -> list[Path]:
    """The example DAGs: where pip has installed them, or in the repository that this runs from."""
    try:
        listed = [Path(str(one.locate())) for one in files(_DISTRIBUTION) or () if _is_dag(Path(str(one)))]
    except PackageNotFoundError:
        listed = []
    return listed or sorted((Path(__file__).parents[2] / "dags").glob("*.py"))


def _is_dag(path: Path) -> bool:
    return path.parts[-3:-1] == ("azureml-classic", "dags") and path.suffix == ".py"


def next_steps(settings: Settings, folder: Path) -> str:
    """What to do, for a person who has just started it.

    :param settings: of the running server.
    :param folder: see :func:`prepare`.
    """
    connection = shlex.quote(str(settings.data_dir / "connection.json"))
    connections = shlex.quote(str(settings.data_dir / "airflow_connections.json"))
    dags, data = shlex.quote(str(folder / "dags")), shlex.quote(str(folder / "census.csv"))
    conf = shlex.quote(f'{{"path": "{folder / "census.csv"}"}}')
    return f"""
The portal, signed in (the link works once, for {int(CODE_LIFE.total_seconds() // 60)} minutes):

  {settings.public_url}{PORTAL}/sign-in/{settings.sign_in_code}

Retrain from a shell. In a second terminal, in this Python environment:

  export AZUREML_CLASSIC_CONNECTION={connection}
  azureml-classic endpoints add "Census Model [predictive exp.]" mine
  azureml-classic train "Census Model" mine {data} --put-live --max-worse "Accuracy=5%"

Retrain from Airflow, where this package is installed too:

  airflow db migrate
  airflow connections import {connections}
  export AIRFLOW__CORE__DAGS_FOLDER={dags}
  airflow dags test first_retrain --conf {conf}

Ctrl-C stops the server; the same command starts it again with all that it has.
"""
