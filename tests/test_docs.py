"""The documents tell the truth: parts from the code are up to date, blocks run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from airflow_provider_azureml_classic.server.__main__ import parser
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment, load_experiments
from tests.support import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])


def _render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_parts_from_the_code_are_up_to_date():
    """The DAG and the table of errors in the README are what the code says; `make docs` renews them."""
    text = (ROOT / "README.md").read_text()
    assert _render().rendered(text) == text


def test_rendering_notices_a_stale_part():
    """A README whose table of errors was edited by hand is not what rendering makes of it."""
    text = (ROOT / "README.md").read_text()
    stale = text.replace("| `NotFound`", "| `Missing`")
    assert stale != text
    assert _render().rendered(stale) == text


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path):
    """Every relative link of a document names a file of the repository."""
    targets = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_readme_experiment_can_be_declared(tmp_path: Path):
    """The five lines of TOML in the README declare an experiment as they stand."""
    block = re.search(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    assert len(block[1].strip().splitlines()) == 5
    assert tomllib.loads(block[1])
    (tmp_path / "churn.toml").write_text(block[1])
    (tmp_path / "churn.csv").write_text("age,plan,churned\n31,a,no\n60,b,yes\n")
    assert load_experiments(tmp_path / "churn.toml")[0].scoring_service == "Churn Model [predictive exp.]"


def test_server_page_lists_every_argument_and_every_key():
    """docs/server.md names every option of the server and every key of an experiment."""
    text = (ROOT / "docs" / "server.md").read_text()
    options = [option for action in parser()._actions for option in action.option_strings if option.startswith("--")]
    keys = [name for name in inspect.signature(Experiment).parameters if name != "directory"]
    assert [name for name in [*options, *keys] if name not in text and name != "--help"] == []


def test_make_help_lists_the_targets():
    """`make` alone explains itself: every phony target has its line."""
    said = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text(), re.M)
    assert [target for target in targets if f"make {target} " not in said] == []


def test_documents_name_no_machine_or_registry():
    """No document, and no file of the package, holds a path of a developer's machine or a registry's host."""
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    texts = [ROOT / name for name in files.splitlines() if name != "tests/test_docs.py"]
    forbidden = re.compile(r"/work/|/root/|/tmp/w/|pypi\.org|npmjs|files\.pythonhosted")
    bad = [str(path) for path in texts if path.is_file() and forbidden.search(path.read_text(errors="ignore"))]
    assert bad == []
