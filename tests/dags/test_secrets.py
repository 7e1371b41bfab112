"""No secret rests anywhere in Airflow: not in its database, its logs, its XComs or what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.dag_runner import flown
from tests.support.leaks import leaks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all runs left."""
    base = tmp_path_factory.getbasetemp()
    return flown((base.parent if base.name.startswith("popen-") else base) / "airflow-runs")


def places(report: dict[str, Any]) -> dict[str, bytes]:
    """Everything that the runs left: all files of the home, what was printed, all XComs."""
    files = [path for path in Path(report["home"]).rglob("*") if path.is_file()]
    found = {str(path): path.read_bytes() for path in (*files, Path(report["log"]))}
    return {**found, "xcoms": json.dumps(report["xcoms"]).encode(), "runs": json.dumps(report["runs"]).encode()}


def test_nothing_leaks(report: dict[str, Any]) -> None:
    """No token, endpoint key, account key or signature is found anywhere."""
    assert len(report["secrets"]) >= 2 + 2 * 6
    found = {place: leaks(content, report["secrets"]) for place, content in places(report).items()}
    assert {place: what for place, what in found.items() if what} == {}


def test_the_search_sees_the_database(report: dict[str, Any]) -> None:
    """The search reads what the runs left: a job's id, which is no secret, is in the database, the log and an XCom."""
    job_id = report["runs"][0]["returned"]["train"]["job_id"].encode()
    holding = [place for place, content in places(report).items() if job_id in content]
    assert any(place.endswith(".db") for place in holding)
    assert {report["log"], "xcoms"} <= set(holding)


@pytest.mark.parametrize("planted", ["clear", "quoted", "json", "sig", "quoted sig"])
def test_the_search_finds(report: dict[str, Any], tmp_path: Path, planted: str) -> None:
    """A secret planted in a copy of the database is found, however it is spelled."""
    (database,) = Path(report["home"]).glob("*.db")
    key = "aB+/" * 20 + "=="
    text = {
        "clear": key,
        "quoted": quote(key, safe=""),
        "json": json.dumps({"key": key}),
        "sig": "https://a.example/c/b?sv=1&sig=aB%2B",
        "quoted sig": quote("?sv=1&sig=aB", safe=""),
    }[planted]
    copy = tmp_path / "copy.db"
    copy.write_bytes(database.read_bytes() + text.encode() + b"\0")
    assert leaks(copy.read_bytes(), [*report["secrets"], key]) == (["sig="] if "sig" in planted else [key[:6]])


def test_blotted_signatures_are_no_leak() -> None:
    """What the errors' own blotting leaves is not taken for a signature."""
    assert leaks(b"https://a.example/c/b?sig=*** and more", []) == []
