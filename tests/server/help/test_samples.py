"""The samples of the help pages do what they say: taken out of the page and run as they stand there."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support import BIKES, BIKES_SCORING, ServerProcess, require_program

COLUMNS = ("season", "yr", "mnth", "hr", "holiday", "weekday", "workingday", "weathersit")
COLUMNS += ("temp", "atemp", "hum", "windspeed")
CELLS = (1, 0, 1, 0, 0, 6, 0, 1, 0.24, 0.2879, 0.81, 0.0)
ROW = dict(zip(COLUMNS, CELLS, strict=True))
#: Model that a language's samples train: the same number of rentals at any hour, so that it cannot be mistaken.
LANGUAGES = {"curl": 400, "Python (requests)": 500, "R (httr)": 600, "C# (HttpClient)": 700}
every_language = pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.split()[0])


def by_curl(sample: Path) -> list[str]:
    """A shell script."""
    require_program("curl", "Install the package curl.")
    return ["bash", "-euo", "pipefail", str(sample)]


def by_python(sample: Path) -> list[str]:
    """A Python file."""
    return [sys.executable, str(sample)]


def by_r(sample: Path) -> list[str]:
    """An R file."""
    how = "Install the packages r-base-core and r-cran-httr."
    program = require_program("Rscript", how)
    require_program("httr", how, "/usr/*/R/*library", "/usr/local/lib/R/*library")
    return [str(program), "--vanilla", str(sample)]


def by_csharp(sample: Path) -> list[str]:
    """A C# file, compiled."""
    how = "Install the packages mono-mcs and libmono-system-net-http4.0-cil."
    compiler, runtime = require_program("mcs", how), require_program("mono", how)
    require_program("System.Net.Http.dll", how, "/usr/lib/mono/4.5")
    program = sample.with_suffix(".exe")
    command = [str(compiler), "-r:System.Net.Http", f"-out:{program}", str(sample)]
    subprocess.run(command, check=True, timeout=60)
    return [str(runtime), str(program)]


COMMANDS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "curl": ("sample.sh", by_curl),
    "Python (requests)": ("sample.py", by_python),
    "R (httr)": ("sample.R", by_r),
    "C# (HttpClient)": ("sample.cs", by_csharp),
}


def run_sample(page: str, language: str, key: str, folder: Path) -> str:
    """What the sample of a page prints, run in ``folder``; it must end well.

    :param page: address of the help page.
    :param language: as the page calls it.
    :param key: value of the variable that the samples read.
    :param folder: an empty one.
    """
    with urlopen(page) as answer:
        text = answer.read().decode()
    found = re.search(rf"<summary>{re.escape(language)}</summary>\s*<pre[^>]*>\s*<code>(.*?)</code>", text, re.DOTALL)
    assert found, f"{page} has no sample in {language}"
    name, command = COMMANDS[language]
    folder.mkdir()
    sample = folder / name
    sample.write_text(html.unescape(found[1]) + "\n")
    environment = {**os.environ, "AZUREML_CLASSIC_KEY": key}
    done = subprocess.run(
        command(sample), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def client(server: ServerProcess) -> Client:
    """A client of the running server."""
    return server.client()


def default_endpoint(client: Client, service: str) -> Endpoint:
    """The default endpoint of a web service."""
    return client.get_endpoint(client.find_web_service(service).id, "default")


@pytest.mark.slow
@every_language
def test_the_sample_scores(client: Client, tmp_path: Path, language: str) -> None:
    """The score that is printed is the one that this package's own client gets for the row on the page."""
    endpoint = default_endpoint(client, BIKES_SCORING)
    printed = run_sample(f"{endpoint.help_location}/score", language, endpoint.primary_key, tmp_path / "run")
    with urlopen(f"{endpoint.api_location}/swagger.json") as answer:
        example = json.load(answer)["definitions"]["ExecutionRequest"]["example"]
    (score,) = client.score(endpoint, example["Inputs"]["input1"]).column("Scored Labels")
    assert score in printed


@pytest.mark.slow
@every_language
def test_the_samples_train_and_update(server: ServerProcess, client: Client, tmp_path: Path, language: str) -> None:
    """The sample of the jobs page trains on the named file, that of the update page puts this model in place."""
    rentals = LANGUAGES[language]
    row = ",".join(map(str, CELLS))
    lines = [f"2011-02-{day:02},{row},{rentals}" for day in range(1, 29)]
    server.upload("data/january.csv", "\n".join([f"dteday,{','.join(COLUMNS)},cnt", *lines]) + "\n")
    trainer = default_endpoint(client, BIKES)
    run_sample(f"{trainer.help_location}/jobs", language, trainer.primary_key, tmp_path / "job")
    scorer = client.add_endpoint(client.find_web_service(BIKES_SCORING).id, f"sample{rentals}")
    run_sample(f"{scorer.help_location}/update", language, scorer.secondary_key, tmp_path / "update")
    (score,) = client.score(scorer, [ROW]).column("Scored Labels")
    assert float(score) == pytest.approx(rentals, abs=1)


def test_the_r_client_finds_its_sample(client: Client) -> None:
    """Its ``endpointHelp(type = "r-snippet")`` drops the tags, and counts bytes up to the second behind a mark."""
    with urlopen(f"{default_endpoint(client, BIKES_SCORING).help_location}/score") as answer:
        before, mark, rest = answer.read().decode().partition("code-snippet-r")
    assert mark
    assert before.isascii()
    assert rest.startswith('">\n<code>library(httr)')
