"""What is installed is what the repository has."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.support import ROOT


def _files() -> list[str]:
    """What git tracks, or would track."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a copy of the repository's files."""
    copy = tmp_path_factory.mktemp("source")
    for name in _files():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    build = "import setuptools.build_meta as b, sys; print(b.build_wheel(sys.argv[1]))"
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", build, str(out)], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.mark.slow
def test_wheel_contains_everything_but_the_tests(wheel: zipfile.ZipFile):
    """Every file of the package is in the wheel, type marker included; DAGs are where quickstart looks."""
    wanted = {name for name in _files() if name.startswith("airflow_provider_azureml_classic/")}
    names = set(wheel.namelist())
    assert wanted - names == set()
    assert {"airflow_provider_azureml_classic/py.typed"} <= names
    dags = {name.rpartition("/")[2] for name in names if "/share/azureml-classic/dags/" in name}
    assert dags == {path.name for path in (ROOT / "dags").glob("*.py")}
    assert [name for name in names if name.startswith(("tests/", "demo/", "dags/"))] == []


def test_the_source_archive_has_guides_and_dags():
    """What the README leads to is in it; that all of it is named follows the patterns of MANIFEST.in."""
    patterns = re.findall(r"^recursive-include (docs|dags) (.*)$", (ROOT / "MANIFEST.in").read_text(), re.M)
    endings = {folder: {pattern.lstrip("*") for pattern in text.split()} for folder, text in patterns}
    names = [Path(name) for name in _files()]
    left_out = [str(n) for n in names if n.parts[0] in ("docs", "dags") and n.suffix not in endings[n.parts[0]]]
    assert left_out == []


@pytest.mark.slow
def test_the_description_stands_alone(wheel: zipfile.ZipFile):
    """What an index shows is README without links to files, pictures that are files, and commands of the repository."""
    text = wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA"))).decode()
    assert "\nDescription-Content-Type: text/markdown\n" in text
    assert [link for link in re.findall(r"\]\(([^)]*)\)", text) if not link.startswith("https://")] == []
    assert re.findall(r"^\$ (?:make .*|pip install \"?\..*)", text, re.M) == []
    assert 'pip install "airflow-provider-azureml-classic[server]"' in text
    assert "\n$ azureml-classic-server quickstart\n" in text


@pytest.mark.slow
def test_wheel_declares_its_entry_points(wheel: zipfile.ZipFile):
    """The wheel registers the provider with Airflow and installs the server's command."""
    text = wheel.read(next(n for n in wheel.namelist() if n.endswith("entry_points.txt"))).decode()
    assert "[apache_airflow_provider]" in text
    assert "azureml-classic-server = " in text


def test_installed_entry_points_load():
    """The installed entry points lead to functions."""
    provider = [
        e for e in entry_points(group="apache_airflow_provider") if e.value.startswith("airflow_provider_azure")
    ]
    assert provider[0].load()()["package-name"] == "airflow-provider-azureml-classic"
    command = [e for e in entry_points(group="console_scripts") if e.name == "azureml-classic-server"]
    assert callable(command[0].load())


@pytest.mark.parametrize("name", ["requirements.lock"])
def test_lock_names_hashes_and_no_address(name: str):
    """The lock pins every package by hash and names no registry."""
    text = (ROOT / name).read_text()
    pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(("#", " "))]
    assert len(pinned) > 100
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text
    assert Path(ROOT / "setup.cfg").read_text().count("apache-airflow") >= 1
