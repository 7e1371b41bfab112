"""A declaration that changes under its web services, and what is read in first data before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server.__main__ import main
from airflow_provider_azureml_classic.server.experiments import load_experiments
from airflow_provider_azureml_classic.server.workspace.catalogue import fingerprint
from tests.support.portal import Visitor
from tests.support.service import TRAINING, Clock, Service
from tests.tables.support import CASES


def declare(service_dir: Path, more: str) -> None:
    """Add keys to the first experiment of a service that is not running."""
    path = service_dir.parent / "experiments.toml"
    first, *others = path.read_text().split("[[experiment]]")[1:]
    path.write_text("[[experiment]]".join(["", f"{first.rstrip()}\n{more}\n\n", *others]))


def test_a_changed_declaration_names_its_keys(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key by key, from what to what; and the two ways out."""
    declare(service_dir, 'missing = ["-"]\nencoding = "latin-1"\ncolumns = { x = { kind = "number" } }')
    with pytest.raises(ValueError, match="is declared in another way") as caught:
        Service(service_dir, clock, monkeypatch)
    message = str(caught.value)
    assert "missing was ['', 'NaN', '?'] and is ['-']" in message
    assert "encoding was None and is 'iso8859-1'" in message
    assert "columns was None and is {'x': {'kind': 'number', 'dressed': True}}" in message
    assert f"--redeclare '{TRAINING}'" in message or f"--redeclare {TRAINING}" in message


@pytest.mark.slow
def test_redeclared(service_dir: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids and keys stay, endpoints keep their models, and what is trained next is of the new declaration."""
    before = Service(service_dir, clock, monkeypatch)
    endpoints = [before.client.get_endpoint(name, "default") for name in (before.training, before.scoring)]
    before.close()
    declare(service_dir, 'columns = { x = { kind = "text" } }')
    service = Service(service_dir, clock, monkeypatch, redeclared=frozenset({TRAINING}))
    after = [service.client.get_endpoint(name, "default") for name in (service.training, service.scoring)]
    assert after == endpoints
    assert {column.kind for column in service.work._catalogue.schema(TRAINING).features} == {"string"}
    service.close()
    Service(service_dir, clock, monkeypatch).close()


def test_what_says_nothing_is_not_in_the_digest(service_dir: Path) -> None:
    """The digests of earlier versions stand."""
    first, _ = load_experiments(service_dir.parent / "experiments.toml")
    declare(service_dir, "columns = {}")
    again, _ = load_experiments(service_dir.parent / "experiments.toml")
    declare(service_dir, 'encoding = "utf-8"')
    other, _ = load_experiments(service_dir.parent / "experiments.toml")
    assert fingerprint(first) == fingerprint(again) != fingerprint(other)


def test_the_portal_shows_the_first_data(service: Service) -> None:
    """Kind, range, example and note of each column, on the page of the web service that trains."""
    visitor = Visitor(service)
    visitor.sign_in()
    page = visitor.get(f"/portal/services/{service.training}").text
    page = re.sub(r' data-label="\w+"', "", " ".join(page.split()))
    assert '<th scope="row">x</th><td>number</td><td>0</td><td>21</td><td>0</td><td>2</td><td>0.0</td>' in page


def test_check_shows_what_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the columns; a column that cannot be used as it is makes the status that of a mistake."""
    path = tmp_path / "x.toml"
    lines = [
        '[[experiment]]\nname = "{}"\nestimator = "sklearn.linear_model.Ridge"\nlabel = "y"\nfirst_data = "{}"'.format(
            *one
        )
        for one in (("Days", CASES / "05/yyyymmdd.csv"), ("Money", CASES / "14/dollar.csv"))
    ]
    path.write_text(lines[0])
    assert main(["check", str(path)]) == 0
    first, heading, *columns = capsys.readouterr().out.strip().splitlines()
    assert first == "Experiment 'Days', label 'y': 310 rows of first data."
    assert heading.split() == ["column", "kind", "missing", "distinct", "smallest", "largest", "example", "note"]
    assert columns[0].split()[:5] == ["day", "number", "0", "31", "20260101"]
    assert "looks like dates (yyyymmdd)" in columns[0]
    path.write_text("\n".join(lines))
    assert main(["check", str(path)]) == 2
    assert "'$1,000.50' is written as spreadsheets show numbers" in capsys.readouterr().out
    assert main(["check", str(tmp_path / "none.toml")]) == 2
    assert "none.toml" in capsys.readouterr().err
