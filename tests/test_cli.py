"""The command line ``azureml-classic`` against a running server, mostly as a process of its own."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic import __version__
from airflow_provider_azureml_classic.cli import __main__ as cli
from airflow_provider_azureml_classic.cli import profiles
from airflow_provider_azureml_classic.cli.access import Access
from airflow_provider_azureml_classic.cli.endpoints import top
from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import KEPT, pairs
from airflow_provider_azureml_classic.client import Client
from airflow_provider_azureml_classic.client.answers import ServiceFacts
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.retraining.checkup import Finding, check_service
from tests.support import BIKES, BIKES_SCORING, CENSUS_SCORING, ServerProcess
from tests.support.verbs import NOON, scoring_csv, training_csv

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "airflow_provider_azureml_classic.cli"]


def environment(server: ServerProcess, **more: str) -> dict[str, str]:
    """This process's environment with the server's connection file in it."""
    return {**os.environ, "AZUREML_CLASSIC_CONNECTION": str(server.data_dir / "connection.json"), **more}


def run(server: ServerProcess, *arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """The command line without a terminal."""
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        env=environment(server, **more),
        timeout=120,
    )


def answer(server: ServerProcess, *arguments: str, stdin: str = "") -> Any:
    """What a command that succeeds prints as JSON."""
    done = run(server, *arguments, "-o", "json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_retraining_by_hand(server: ServerProcess, tmp_path: Path) -> None:
    """The whole sequence from a shell: add, upload, train, update, score, download, delete."""
    training, model = tmp_path / "training.csv", tmp_path / "model.ilearner"
    training.write_text(training_csv())
    added = answer(server, "endpoints", "add", BIKES_SCORING, "byhand", "--description", "a person")
    assert (added["name"], added["description"]) == ("byhand", "a person")
    uploaded = answer(server, "upload", str(training), "cli/bikes.csv")
    assert uploaded["bytes"] == training.stat().st_size
    assert uploaded["rows"] == len(training.read_text().splitlines()) - 1
    job = answer(server, "jobs", "submit", BIKES, "default", "--input", "cli/bikes.csv", "--wait")
    assert job["status"] == "Finished", job
    listed = answer(server, "jobs", "list", BIKES, "default", "--limit", "1")
    assert [(row["id"], row["status"]) for row in listed] == [(job["id"], "Finished")]
    log = run(server, "logs", BIKES, "default", job["id"], "--follow").stdout
    assert "Reads input1" in log
    assert log.splitlines()[-1].endswith("Finished.")
    updated = answer(server, "endpoints", "update", BIKES_SCORING, "byhand", "--job", job["id"], "--trainer", BIKES)
    assert list(updated["models"].values()) == [job["results"]["output1"]]
    scored = answer(server, "score", BIKES_SCORING, "byhand", "--file", "-", "--batch-size", "7", stdin=scoring_csv(20))
    assert [set(row) >= {"Scored Labels"} for row in scored] == [True] * 20
    download = ["jobs", "download", BIKES, "default", job["id"], str(model), "--output-name", "output1"]
    assert answer(server, *download)["bytes"] == model.stat().st_size > 100
    assert "--overwrite" in run(server, *download).stderr
    assert run(server, "endpoints", "delete", BIKES_SCORING, "byhand", "--yes").returncode == cli.DONE
    assert run(server, "endpoints", "show", BIKES_SCORING, "byhand").returncode == cli.REFUSED


@pytest.mark.slow
def test_train_in_one_line(server: ServerProcess, tmp_path: Path) -> None:
    """Upload, train, judge and put live; a model that is not good enough changes nothing and has its own status."""
    training = tmp_path / "january.csv"
    training.write_text(training_csv())
    answer(server, "endpoints", "add", BIKES_SCORING, "oneline")
    before = answer(server, "endpoints", "show", BIKES_SCORING, "oneline")["models"]
    command = ["train", BIKES_SCORING, "oneline", str(training), "--put-live", "-o", "json"]
    kept = run(server, *command, "--min", "Coefficient of Determination=1.5", "--max-worse", "Mean Absolute Error=90%")
    assert kept.returncode == KEPT, kept.stderr
    assert (json.loads(kept.stdout)["outcome"], "below the minimum of 1.5" in kept.stderr) == ("kept", True)
    assert answer(server, "endpoints", "show", BIKES_SCORING, "oneline")["models"] == before
    # By the training service's name, and with a rule that holds.
    command[1] = BIKES
    done = run(server, *command, "--max-worse", "Mean Absolute Error=900%", "--window-end", "2012-02-01")
    assert done.returncode == cli.DONE, done.stderr
    trained = json.loads(done.stdout)
    assert trained["outcome"] == "live"
    assert "20120201T000000Z" in trained["model"]
    assert "Proved by content" in done.stderr
    shown = answer(server, "endpoints", "show", BIKES_SCORING, "oneline")
    assert list(shown["models"].values()) == [trained["model"]]
    assert (shown["trained_to"], " d " in shown["age"]) == ("2012-02-01T00:00:00Z", True)
    blown = tmp_path / "blown.csv"
    names, *rows = training.read_text().splitlines()
    at = names.split(",").index("windspeed")
    cells = [row.split(",") for row in rows]
    blown.write_text("\n".join([names, *(",".join([*row[:at], "900", *row[at + 1 :]]) for row in cells), ""]))
    command[3] = str(blown)
    unlike = run(server, *command, "--window-end", "2012-02-02")
    assert (unlike.returncode, json.loads(unlike.stdout)["outcome"]) == (KEPT, "kept"), unlike.stderr
    assert "Column 'windspeed' is far from" in unlike.stderr
    assert "--data-check off" in unlike.stderr
    model = tmp_path / "live.ilearner"
    written = answer(server, "download", BIKES_SCORING, "oneline", str(model))
    assert (written["model"], written["bytes"]) == (trained["model"], model.stat().st_size)
    assert zipfile.is_zipfile(model)
    assert "--overwrite" in run(server, "download", BIKES_SCORING, "oneline", str(model)).stderr
    command[3] = str(training)
    again = run(server, *command, "--window-end", "2012-02-01", "--data-check", "off")
    assert again.returncode == cli.DONE, again.stderr
    assert "live already" in again.stderr
    older = run(server, *command, "--window-end", "2012-01-15", "--data-check", "off")
    assert (older.returncode, json.loads(older.stdout)["outcome"]) == (KEPT, "kept"), older.stderr
    assert "up to 2012-02-01 00:00 UTC, this one only up to 2012-01-15 00:00 UTC" in older.stderr
    assert "--no-only-if-newer" in older.stderr
    # Both trainings gave one model; what was before it is the one that the service began with.
    live, same, first = answer(server, "history", BIKES_SCORING, "oneline")
    assert [(row["live"], row["kept"], row["proof"]) for row in (live, same, first)] == [
        (True, True, "content"), (False, True, None), (False, True, None)
    ]  # fmt: skip
    assert (live["digest"], live["window_end"], first["window_end"]) == (
        same["digest"],
        "2012-02-01T00:00:00Z",
        None,
    )
    assert live["metric"].startswith("Mean Absolute Error ")
    back = answer(server, "rollback", BIKES_SCORING, "oneline")
    assert (back["model"]["content"], back["proof"]["level"]) == (first["digests"]["content"], "content")
    assert answer(server, "endpoints", "show", BIKES_SCORING, "oneline")["models"] == before
    forth = answer(server, "rollback", BIKES_SCORING, "oneline", "--window-end", "2012-02-01")
    assert forth["model"]["content"] == live["digests"]["content"]
    assert answer(server, "rollback", BIKES_SCORING, "oneline", "--model", first["digest"])["model"] == back["model"]
    never = run(server, "rollback", BIKES_SCORING, "oneline", "--window-end", "2012-03-01")
    assert (never.returncode, "never had a model" in never.stderr) == (cli.REFUSED, True)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max-worse", "Luck=5%"], "--max-worse names 'Luck'"),
        (["--min", "AUC=much"], "expected a number"),
        (["--max-worse", "AUC=-1"], "a number of 0 or more"),
        (["--window-start", "2012-01-01"], "needs --window-end"),
        (["--trainer", "Nobody"], "Nobody"),
        ([], "must end in .csv"),
    ],
)
def test_a_training_that_cannot_be_meant(server: ServerProcess, more: list[str], message: str) -> None:
    """It is refused before anything is uploaded or trained."""
    with server.client() as client:
        scoring = client.find_web_service(BIKES_SCORING)
        client.add_endpoint(scoring.id, "meant")
    done = run(server, "train", BIKES_SCORING, "meant", "rows.xlsx", *more)
    assert done.returncode in (cli.USAGE, cli.REFUSED)
    assert message in done.stderr


def test_an_update_by_path_from_variables_only(server: ServerProcess) -> None:
    """Without a storage account a path is in the service's own store, and the service answers with a whole address:
    the update that was made is reported as one.
    """
    with server.client() as client:
        scoring = client.find_web_service(BIKES_SCORING)
        default = client.get_endpoint(scoring.id, "default").resource().location
        assert default is not None
        path = default.location.removeprefix(f"{server.account.endpoint}/")
        server.upload("models/bypath.ilearner", client.fetch_blob(server.sas(path)))
        client.add_endpoint(scoring.id, "bypath")
    variables = {
        "AZUREML_CLASSIC_URL": server.url,
        "AZUREML_CLASSIC_WORKSPACE": server.connection["workspace_id"],
        "AZUREML_CLASSIC_TOKEN": server.connection["token"],
    }
    done = run(
        server,
        "endpoints",
        "update",
        BIKES_SCORING,
        "bypath",
        "--model",
        "models/bypath.ilearner",
        "-o",
        "json",
        **variables,
    )
    assert done.returncode == cli.DONE, done.stderr
    assert "Proved by resource" in done.stderr
    assert list(json.loads(done.stdout)["models"].values()) == [f"{server.account.endpoint}/models/bypath.ilearner"]


def test_a_job_that_fails_has_its_own_status(server: ServerProcess) -> None:
    """A script can tell a job that failed from a call that was refused."""
    done = run(server, "jobs", "submit", BIKES, "default", "--input", "cli/none.csv", "--wait")
    assert done.returncode == cli.JOB_ENDED_BADLY
    assert "BlobNotFound" in done.stdout


def test_lists_as_table_json_and_csv(server: ServerProcess) -> None:
    """The three forms hold the same names; a pipe gets whole lines."""
    names = {row["name"] for row in answer(server, "services", "list")}
    assert {BIKES, BIKES_SCORING} <= names
    table = run(server, "services", "list").stdout
    assert all(any(line.split("  ")[0].strip() == name for line in table.splitlines()) for name in names)
    rows = csv.DictReader(io.StringIO(run(server, "services", "list", "-o", "csv").stdout))
    assert {row["name"] for row in rows} == names


def test_keys_are_shown_on_request_only(server: ServerProcess) -> None:
    """No key in what is printed, unless ``--keys`` says so."""
    with server.client() as client:
        endpoint = client.get_endpoint(client.find_web_service(CENSUS_SCORING).id, "default")
    for form in ("table", "json", "csv"):
        shown = run(server, "endpoints", "show", CENSUS_SCORING, "default", "-o", form).stdout
        assert "default" in shown
        assert not any(key in shown for key in endpoint.secrets)
    assert answer(server, "endpoints", "show", CENSUS_SCORING, "default", "--keys")["primary_key"] in endpoint.secrets


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["endpoints", "show", BIKES_SCORING, "nobody"], cli.REFUSED, "has no endpoint 'nobody'; it has: "),
        (["endpoints", "show", "Nothing", "default"], cli.REFUSED, "no web service is called 'Nothing'"),
        (["endpoints", "delete", BIKES_SCORING, "default"], cli.USAGE, "say --yes"),
        (["endpoints", "set", BIKES_SCORING, "default"], cli.USAGE, "Nothing to change"),
        (["endpoints", "set", BIKES_SCORING, "default", "--stale-after", "2w"], cli.USAGE, "such as 36h or 7d"),
        (["endpoints", "add", BIKES_SCORING, "default"], cli.USAGE, "--if-exists keep"),
        (["endpoints", "add", BIKES_SCORING, "Not-A-Name"], cli.REFUSED, "1 to 24 lower-case letters"),
        (["score", BIKES_SCORING, "default"], cli.USAGE, "No rows were given"),
        (["score", BIKES_SCORING, "default", "--row", "[1]"], cli.USAGE, "must be a JSON object"),
        (["score", BIKES_SCORING, "default", "--row", "{"], cli.USAGE, "is not JSON"),
        (["score", BIKES_SCORING, "default", "--row", "[" * 100_000], cli.USAGE, "it is nested too deeply"),
        (["score", BIKES_SCORING, "default", "--row", "{}"], cli.REFUSED, "has no column"),
        (["score", BIKES_SCORING, "default", "--file", "/none.csv"], cli.USAGE, "/none.csv cannot be read"),
        (["upload", "/none.csv", "data/a.csv"], cli.USAGE, "/none.csv cannot be read"),
        (["upload", "/none.csv", "https://elsewhere.example/data/a.csv"], cli.USAGE, "Nothing opens"),
        (["upload", __file__, "data/a.py"], cli.USAGE, "must end in .csv, .tsv, .arff, .parquet, .ilearner"),
        (["upload", "rows.parquet", "data/a.csv"], cli.USAGE, "must end in .parquet"),
        (["upload", __file__, "data/a.csv"], cli.REFUSED, "row "),
        (["upload", "/", "data/a.csv"], cli.USAGE, "/ cannot be read: Is a directory."),
        (["download", BIKES_SCORING, "default", "/none/a.ilearner"], cli.USAGE, "/none/a.ilearner: No such file"),
        (["jobs", "show", BIKES, "default", "0" * 32], cli.REFUSED, "has no job"),
        (["check", "--connection", "/none.json"], cli.USAGE, "/none.json cannot be read"),
        (["check", "--connection", __file__], cli.USAGE, "is not the connection.json"),
        (["jobs"], cli.USAGE, "required: VERB"),
    ],
)
def test_mistakes(server: ServerProcess, arguments: list[str], status: int, said: str) -> None:
    """Each mistake ends in its own status and one sentence, with no traceback."""
    done = run(server, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "Errno" not in done.stderr
    assert not re.search(r"[^.]\.\.\s", done.stderr)


NAMES = list(NOON)
CELLS = [str(cell) for cell in NOON.values()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", "\n".join([";".join(NAMES), ";".join(CELLS).replace(".", ",")])),
        ("rows.tsv", "\n".join(["\t".join(NAMES), "\t".join(CELLS)])),
        (
            "rows.arff",
            "\n".join(["@relation r", *(f"@attribute {n} numeric" for n in NAMES), "@data", ",".join(CELLS)]),
        ),
        ("rows.json", json.dumps([NOON])),
    ],
)
def test_rows_are_scored_from_every_format(server: ServerProcess, tmp_path: Path, name: str, content: str) -> None:
    """The same row gives the same answer whatever file it is in; the extension says what that is."""
    (tmp_path / name).write_text(content)
    scored = answer(server, "score", BIKES_SCORING, "default", "--file", str(tmp_path / name))
    wanted = answer(server, "score", BIKES_SCORING, "default", "--row", json.dumps(NOON))
    assert scored == wanted


def test_arff_comes_through_a_pipe_too(server: ServerProcess) -> None:
    """Standard input has no extension: ARFF is told by how it begins."""
    text = "\n".join(["% one row", *(f"@attribute {n} numeric" for n in NAMES), "@data", ",".join(CELLS)])
    scored = answer(server, "score", BIKES_SCORING, "default", "--file", "-", stdin=text)
    assert scored == answer(server, "score", BIKES_SCORING, "default", "--row", json.dumps(NOON))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.arff", "hr,temp\n1,0.5\n", "The ARFF cannot be read: Line 1 is 'hr,temp'"),
        ("rows.tsv", "hr\ttemp\n1\n", "Data row 1 has 1 cell; the header row has 2"),
        ("rows.csv", "hr,hr\n1,2\n", "its first row has 'hr' twice"),
        ("rows.csv", "", "The CSV is empty"),
        ("rows.csv", "PK\0\0", "The CSV is not text"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    server: ServerProcess, tmp_path: Path, name: str, content: str, said: str
) -> None:
    """The message begins with the file and says what it was read as; no row of it is sent."""
    (tmp_path / name).write_text(content)
    done = run(server, "score", BIKES_SCORING, "default", "--file", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (cli.USAGE, "")
    assert f"{tmp_path / name}: " in done.stderr.replace("\n", "")
    assert said in " ".join(done.stderr.split())


def test_a_csv_with_a_short_row_is_refused(server: ServerProcess) -> None:
    """A cell that is missing is not scored as an empty one."""
    done = run(server, "score", BIKES_SCORING, "default", "--file", "-", stdin="hr,temp\n1,2\n3\n")
    assert (done.returncode, "Data row 2 has 1 cell" in " ".join(done.stderr.split())) == (cli.USAGE, True), done.stderr


def test_no_answer_has_its_own_status(server: ServerProcess) -> None:
    """A script may try again later; the token is in no message."""
    done = run(
        server,
        "check",
        AZUREML_CLASSIC_URL="http://127.0.0.1:9",
        AZUREML_CLASSIC_WORKSPACE="w",
        AZUREML_CLASSIC_TOKEN="not-to-be-seen",
    )
    assert done.returncode == cli.UNAVAILABLE
    assert "not-to-be-seen" not in done.stdout + done.stderr


def test_half_an_environment_is_named() -> None:
    """What is missing is said by name."""
    bare = {key: value for key, value in os.environ.items() if not key.startswith("AZUREML_CLASSIC")}
    half = {**bare, "AZUREML_CLASSIC_URL": "http://127.0.0.1:9"}
    none = subprocess.run([*PROGRAM, "check"], capture_output=True, text=True, env=bare, timeout=60)
    some = subprocess.run([*PROGRAM, "check"], capture_output=True, text=True, env=half, timeout=60)
    assert (none.returncode, "Name the service" in none.stderr) == (cli.USAGE, True)
    assert "AZUREML_CLASSIC_WORKSPACE, AZUREML_CLASSIC_TOKEN must be set" in some.stderr


def test_login_once(server: ServerProcess, tmp_path: Path) -> None:
    """A profile is tried, kept for its owner alone, used without a word, and forgotten; the token is never printed."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AZUREML_CLASSIC")}

    def at(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command, variables = [*PROGRAM, *arguments], {**bare, "XDG_CONFIG_HOME": str(tmp_path)}
        return subprocess.run(command, capture_output=True, text=True, input=stdin, env=variables, timeout=60)

    token, workspace = server.connection["token"], server.connection["workspace_id"]
    config = tmp_path / "azureml-classic" / "config.toml"
    assert at("login", server.url, workspace, stdin="wrong\n").returncode == cli.REFUSED
    assert not config.exists()
    kept = at("-o", "json", "login", server.url, workspace, stdin=f"{token}\n")
    assert (json.loads(kept.stdout)["profile"], token in kept.stdout + kept.stderr) == ("default", False)
    assert config.stat().st_mode & 0o777 == 0o600
    assert json.loads(at("check", "-o", "json").stdout)["workspace"] == workspace
    # Nothing but the token is known: the service opens its store.
    training, model = tmp_path / "a.csv", tmp_path / "live.ilearner"
    training.write_text(training_csv())
    assert at("upload", str(training), "bytoken/a.csv").returncode == cli.DONE
    assert at("download", BIKES_SCORING, "default", str(model)).returncode == cli.DONE
    assert zipfile.is_zipfile(model)
    assert "a file can be written there" in at("doctor").stdout
    # What the service wrote can be read with it, and stays as it is.
    assert at("upload", str(model), "firstmodels/a.ilearner").returncode == cli.REFUSED
    file = str(server.data_dir / "connection.json")
    assert at("--profile", 'an "other"', "login", "--connection", file).returncode == cli.DONE
    assert json.loads(at("services", "-o", "json", "list", "--profile", 'an "other"').stdout)
    assert at("logout").returncode == cli.DONE
    assert "`azureml-classic login` once" in at("check").stderr
    assert 'it has: an "other"' in at("check", "--profile", "third").stderr
    config.chmod(0o640)
    assert "chmod 600" in at("check", "--profile", 'an "other"').stderr


def test_doctor(server: ServerProcess) -> None:
    """One line a check; what is wrong has its advice, and a status of its own."""
    rows = {row["check"]: row for row in answer(server, "doctor")}
    assert {name: row["state"] for name, row in rows.items()} == dict.fromkeys(
        ("connection", "versions", "clocks", "storage"), "ok"
    )
    variables = {
        "AZUREML_CLASSIC_URL": server.url,
        "AZUREML_CLASSIC_WORKSPACE": server.connection["workspace_id"],
        "AZUREML_CLASSIC_TOKEN": server.connection["token"],
        "AZUREML_CLASSIC_STORAGE_CONNECTION_STRING": server.account.connection_string.replace("Key=", "Key=AAAA"),
    }
    done = run(server, "doctor", **variables)
    assert done.returncode == cli.REFUSED
    assert re.search(r"storage +WRONG .*refuses the key.*Check AccountKey", done.stdout)


def at_another_time(gap: timedelta, version: str) -> Finding:
    """What is found of the clock of a service, whose clock is ahead by so much."""
    facts = ServiceFacts(1, version, format_datetime(datetime(2026, 1, 1, tzinfo=UTC) + gap, usegmt=True))
    steps = check_service(Client("http://x", "w", "t"), lambda: datetime(2026, 1, 1, tzinfo=UTC))
    next(steps)
    with pytest.raises(StopIteration) as end:
        steps.send(facts)
    _, versions, clocks = end.value.value
    assert (versions.good is True) == (version == __version__)
    return clocks


def test_clocks_that_differ() -> None:
    """Some minutes do no harm; more of them are named, either way."""
    assert at_another_time(timedelta(minutes=4), __version__).good
    assert at_another_time(timedelta(minutes=6), "9.9").good is False
    assert "differ by 360 s" in at_another_time(timedelta(minutes=-6), "").found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profiles.a]\nurl = 1\nworkspace = 'w'\ntoken = 't'", "'url' is unknown or not a text"),
        ("[profiles.a]\nurl = 'u'\nworkspace = 'w'", "'token' is missing"),
        ("[profiles.a]\nurl = 'u'\nworkspace = 'w'\ntoken = 't'\ntimeout = '3'", "'timeout' is unknown"),
        ("url = 'u'", "must hold tables"),
        ("profiles = [", "is not TOML"),
        ("#" * (1 << 21), "is not TOML: it has over 1,048,576 bytes"),
    ],
)
def test_profiles_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    """What cannot be understood is an error, and no token is in its message."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ValueError, match=re.escape(message)):
        profiles.load(path)


def test_profiles_come_back_as_they_were(tmp_path: Path) -> None:
    """Whatever letters a name or a token has."""
    kept = {'a."b" \\': {"url": "http://u", "workspace": "w", "token": "t\u007f\n\t\U0001f600\x01"}}
    profiles.save(tmp_path / "new" / "config.toml", kept)
    assert profiles.load(tmp_path / "new" / "config.toml") == kept


def test_one_service_at_a_time() -> None:
    """Two options that each name a service are refused."""
    options = argparse.Namespace(conn_id="a", connection=None, profile="b")
    with pytest.raises(ValueError, match="--conn-id and --profile each name a service"):
        Access.of(options, {})


def test_top_shows_what_needs_attention_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Stale ones, then those of unknown age, then the oldest; no default endpoint, and none that trains."""

    def endpoint(name: str, days: int | None) -> Endpoint:
        end = None if days is None else datetime.now(UTC) - timedelta(days=days)
        path = "models/a.ilearner" if end is None else f"models/{end:%Y%m%dT%H%M%SZ}.ilearner"
        resources = (Resource("m", BlobReference(path)),)
        return Endpoint(name=name, web_service_id="s", resources=resources, stale_after=timedelta(days=7))

    listed = [endpoint("young", 1), endpoint("older", 3), endpoint("unknown", None), endpoint("stale", 9)]
    listed += [endpoint("default", None), Endpoint(name="trains", web_service_id="s")]
    service = SimpleNamespace(id="s", name="Line")
    live = SimpleNamespace(metrics={"AUC": 0.9, "Rows": 9.0}, job_id="j1")
    client = SimpleNamespace(
        list_web_services=lambda: [service],
        list_endpoints=lambda service_id: listed,
        list_models=lambda service_id, name, limit: SimpleNamespace(models=[live][: name == "stale"]),
    )
    session: Any = SimpleNamespace(client=client, out=Output("csv"), arguments=SimpleNamespace(limit=3))
    assert top(session) == cli.DONE
    shown = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(shown.out)))
    assert [(row["name"], row["stale"]) for row in rows] == [("stale", "yes"), ("unknown", ""), ("older", "no")]
    assert [(row["metric"], row["job"]) for row in rows] == [("AUC 0.9", "j1"), ("", ""), ("", "")]
    assert "1 more" in shown.err


def test_version_and_common_options_anywhere(server: ServerProcess) -> None:
    """``--version`` needs no command, and ``-o`` may stand before, between and after the words of one."""
    assert run(server, "--version").stdout == f"azureml-classic {__version__}\n"
    for words in (
        ["-o", "json", "services", "list"],
        ["services", "-o", "json", "list"],
        ["services", "list", "-ojson"],
    ):
        assert json.loads(run(server, *words).stdout), words


@pytest.mark.long
@pytest.mark.slow
def test_a_connection_in_the_database_of_airflow(server: ServerProcess, tmp_path: Path) -> None:
    """``--conn-id`` finds what was added with ``airflow connections``."""
    # Airflow as it is for a user: in the mode for tests it reads another configuration.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    variables |= {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{tmp_path}/a.db"}
    program = (
        "import json, sys; from airflow.models.base import Base; from airflow import settings; "
        "from airflow.models.connection import Connection; from airflow.models.team import Team; "
        "settings.configure_orm(); "
        "Base.metadata.create_all(settings.engine, [Team.__table__, Connection.__table__]); "
        "session = settings.Session(); "
        "session.add(Connection(conn_id='kept', **json.loads(sys.argv[1]))); session.commit()"
    )
    connection = json.loads(server.connection["airflow_conn"])
    connection["extra"] = json.dumps(connection.get("extra") or {})
    subprocess.run(
        [sys.executable, "-c", program, json.dumps(connection)],
        env=variables,
        check=True,
        capture_output=True,
        timeout=120,
    )
    command = [*PROGRAM, "check", "--conn-id", "kept", "-o", "json"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workspace"] == server.connection["workspace_id"]


@pytest.mark.slow
def test_an_airflow_connection_is_enough(server: ServerProcess) -> None:
    """``--conn-id`` reads what the DAGs use; an unknown one is named."""
    variables = {"AIRFLOW_CONN_MINE": server.connection["airflow_conn"]}
    done = run(server, "check", "--conn-id", "mine", "-o", "json", **variables)
    assert json.loads(done.stdout)["workspace"] == server.connection["workspace_id"]
    missing = run(server, "check", "--conn-id", "other")
    assert (missing.returncode, "'other'" in missing.stderr) == (cli.USAGE, True)


def test_without_a_connection_of_airflow_none_of_it_is_imported(server: ServerProcess) -> None:
    """A command starts fast: Airflow takes seconds."""
    program = (
        "import sys; from airflow_provider_azureml_classic.cli.__main__ import main; "
        "status = main(['check']); sys.exit(status or 'airflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(server), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_comes_from_elsewhere_cannot_drive_the_terminal() -> None:
    """Escape sequences in a description are shown as replacement characters."""
    for form in ("table", "csv"):
        out = io.StringIO()
        Output(form, out).record({"description": "\x1b]0;owned\x07 [red]plain[/red]"})
        assert "\x1b" not in out.getvalue() or form == "csv"
        assert "[red]plain[/red]" in out.getvalue()


def test_deleting_asks_on_a_terminal(server: ServerProcess) -> None:
    """``n`` keeps the endpoint, ``y`` deletes it."""
    with server.client() as client:
        service = client.find_web_service(CENSUS_SCORING)
        client.add_endpoint(service.id, "asked")
        for reply, left in (("n", True), ("y", False)):
            ours, theirs = pty.openpty()
            os.write(ours, f"{reply}\n".encode())
            command = [*PROGRAM, "endpoints", "delete", CENSUS_SCORING, "asked"]
            subprocess.run(command, stdin=theirs, capture_output=True, env=environment(server), timeout=60)
            os.close(ours)
            os.close(theirs)
            assert ("asked" in [row.name for row in client.list_endpoints(service.id)]) is left


def test_a_reader_that_stops_is_no_error(server: ServerProcess) -> None:
    """``azureml-classic … | head -1`` ends without a traceback."""
    command = f"{' '.join(PROGRAM)} services list | head -1"
    done = subprocess.run(["bash", "-c", command], env=environment(server), capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def completions(server: ServerProcess, line: str) -> list[str]:
    """What bash would offer at the end of ``line``; argcomplete answers on file descriptor 8."""
    script = f"{' '.join(PROGRAM)} 8>&1 9>&2 >/dev/null 2>&1"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment(server, **asked), capture_output=True, text=True, timeout=60
    )
    return [found.strip() for found in done.stdout.splitlines()]


def test_the_shell_completes_verbs_and_names(server: ServerProcess) -> None:
    """Verbs come from the parser, names of web services and endpoints from the service."""
    assert set(completions(server, "azureml-classic endpoints re")) == {"refresh", "regenerate-key"}
    assert any("Bike" in name for name in completions(server, "azureml-classic endpoints list Bike"))
    assert "default" in completions(server, f"azureml-classic endpoints show '{BIKES_SCORING}' d")
    script = subprocess.run([*PROGRAM, "completion", "bash"], capture_output=True, text=True, timeout=60)
    assert "complete" in script.stdout
    assert script.returncode == 0


def test_named_values() -> None:
    """A URL with a query is a place, not a name and a value."""
    url = "https://a.example/c/b.csv?sv=1&sig=x"
    assert pairs([url], "--input", "input1") == [("input1", url)]
    assert pairs([f"input2={url}"], "--input", "input1") == [("input2", url)]
    with pytest.raises(ValueError, match="twice"):
        pairs(["a=1", "a=2"], "--parameter", None)
    with pytest.raises(ValueError, match="not NAME=VALUE"):
        pairs(["a"], "--parameter", None)
