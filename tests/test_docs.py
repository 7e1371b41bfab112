"""The documents tell the truth: parts from the code are up to date, blocks run, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from airflow.sdk import (
    DAG,
    AsyncCallback,
    BaseHook,
    BaseNotifier,
    BaseOperator,
    BaseOperatorLink,
    CronDataIntervalTimetable,
    DeadlineAlert,
    PartitionedAssetTimetable,
    conf,
    task,
    task_group,
)
from airflow.triggers.base import BaseTrigger

from airflow_provider_azureml_classic import client
from airflow_provider_azureml_classic.assets import web_service_asset
from airflow_provider_azureml_classic.get_provider_info import get_provider_info
from airflow_provider_azureml_classic.scheduling.deadlines import WindowEnd
from airflow_provider_azureml_classic.scheduling.partitions import OnlyEndpoints
from airflow_provider_azureml_classic.scheduling.retry_policy import ServiceRetryPolicy
from airflow_provider_azureml_classic.server import quickstart
from airflow_provider_azureml_classic.server.experiments import preview
from airflow_provider_azureml_classic.server.experiments.declaration import Experiment, load_experiments
from airflow_provider_azureml_classic.server.models import backup
from airflow_provider_azureml_classic.server.settings.options import parser
from tests.support import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")])
PAGES = [path for path in DOCUMENTS if path.parent == ROOT / "docs"]
on_each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
on_each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
#: Longest page; more is two pages.
_LINES = 120


@cache
def _render() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@on_each_document
def test_parts_from_the_code_are_up_to_date(path: Path):
    """Code, and tables of errors, are what the code says; `make docs` renews them."""
    text = path.read_text()
    assert _render().rendered(text) == text


def test_markers_lead_to_code():
    """Every marker of a part is one that is rendered: a misspelt one would never be renewed."""
    names = "|".join(_render()._TABLES)
    form = re.compile(rf"<!-- (?:(?:{names}) -->\n\||dag: \S+ -->\n```python\n|code: \S+ \w+ -->\n```python\n)")
    bad = [
        f"{path.name}: {path.read_text()[found.start() : found.start() + 60]!r}"
        for path in DOCUMENTS
        for found in re.finditer("<!--", path.read_text())
        if not form.match(path.read_text(), found.start())
    ]
    assert bad == []


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


@pytest.mark.slow
def test_documents_name_no_machine_or_registry():
    """No document, and no file of the package, holds a path of a developer's machine or a registry's host."""
    files = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout
    texts = [ROOT / name for name in files.splitlines() if name != "tests/test_docs.py"]
    forbidden = re.compile(r"/work/|/root/|/tmp/w/|pypi\.org|npmjs|files\.pythonhosted")
    bad = [str(path) for path in texts if path.is_file() and forbidden.search(path.read_text(errors="ignore"))]
    assert bad == []


# -- the guides --------------------------------------------------------------------------------------------------------


@on_each_page
def test_pages_are_short_and_found(path: Path):
    """A page is short, and the index leads to it."""
    assert len(path.read_text().splitlines()) <= _LINES
    assert path.name == "index.md" or f"]({path.name})" in (ROOT / "docs" / "index.md").read_text()


def _classes() -> Iterator[type]:
    """Every class that the provider tells Airflow of, or that is in a module that it tells of."""
    info = get_provider_info()
    modules = [
        name
        for part in ("hooks", "operators", "sensors", "triggers")
        for one in info[part]
        for name in one["python-modules"]
    ]
    dotted = [*info.get("extra-links", []), *info.get("notifications", [])]
    modules += [name.rpartition(".")[0] for name in dotted]
    bases = (BaseOperator, BaseTrigger, BaseHook, BaseNotifier, BaseOperatorLink)
    for name in dict.fromkeys(modules):
        for kind in vars(importlib.import_module(name)).values():
            ours = isinstance(kind, type) and kind.__module__ == name and issubclass(kind, bases)
            listed = not name.endswith(".links") or f"{name}.{kind.__name__}" in dotted if ours else False
            if ours and listed and not kind.__name__.startswith("_") and not inspect.isabstract(kind):
                yield kind


def test_every_class_is_in_a_guide():
    """Every operator, sensor, trigger, hook, link and notifier is mentioned in a guide."""
    text = "\n".join(path.read_text() for path in PAGES)
    found = {kind.__name__ for kind in _classes()}
    assert {"BatchExecutionOperator", "JobSensor", "JobTrigger", "AzureMLClassicHook"} <= found
    assert sorted(name for name in found if not re.search(rf"\b{name}\b", text)) == []


def _names() -> dict[str, Any]:
    """What a piece of a DAG may use without importing it."""
    names: dict[str, Any] = {kind.__name__: kind for kind in _classes()}
    said = {"web_service": "Bike Rental [predictive exp.]", "endpoint": "bikes"}
    names |= {"DAG": DAG, "CronDataIntervalTimetable": CronDataIntervalTimetable, "task": task}
    names |= {"task_group": task_group, "datetime": datetime, "timedelta": timedelta, "UTC": UTC, "SCORING": said}
    names |= {"customers": list, "chunks": list, "ENDPOINTS": web_service_asset(said["web_service"])}
    names |= {kind.__name__: kind for kind in (AsyncCallback, DeadlineAlert, PartitionedAssetTimetable)}
    names |= {kind.__name__: kind for kind in (OnlyEndpoints, ServiceRetryPolicy, WindowEnd)}
    names["gate"] = names["approve"] = names["DataCheckOperator"](
        task_id="judged", web_service="Bike Rental", model_for="b"
    )
    names["train"] = names["BatchExecutionOperator"](task_id="before", web_service="Bike Rental", model_for="bikes")
    names["update"] = names["UpdateTrainedModelOperator"](task_id="then", job=names["train"].output, **said)
    return names


def _blocks(kind: str) -> list[Any]:
    """Every block of a kind, with where it stands."""
    return [
        pytest.param(block, id=f"{path.name}:{number}")
        for path in DOCUMENTS
        for number, block in enumerate(re.findall(rf"```{kind}\n(.*?)```", path.read_text(), re.S), 1)
    ]


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_runs(block: str, monkeypatch: pytest.MonkeyPatch):
    """Every piece of Python can be pasted into a DAG file: its operators take these parameters."""
    double = mock.MagicMock(spec_set=client.Client)
    double.__enter__.return_value = double
    monkeypatch.setattr(client, "Client", lambda *_: double)
    with DAG("guide"):
        exec(compile(block, "guide", "exec"), _names())  # noqa: S102 - our own documents


def _commands() -> Iterator[list[str]]:
    """Every command of the guides, in words."""
    for path in DOCUMENTS:
        for block in re.findall(r"```console\n(.*?)```", path.read_text(), re.S):
            if "[--" in block:  # a synopsis; the server's has a test of its own
                continue
            for command in re.split(r"^\$ ", block, flags=re.M)[1:]:
                text = re.sub(r"\$[A-Z]+\b", "2026-01-31", command.replace("\\\n", " "))  # a date that was set before
                words = shlex.split(text, comments=True)
                yield [word for i, word in enumerate(words) if i or "=" not in word] if "=" in words[0] else words


def test_server_and_make_commands_exist():
    """Arguments of `azureml-classic-server`, and targets and variables of `make`, are what these programs take."""
    makefile = (ROOT / "Makefile").read_text()
    spans = {span for path in DOCUMENTS for span in re.findall(r"`([^`\n]+)`", path.read_text())}
    commands = [*_commands(), *(span.split() for span in spans)]
    assert ["make", "serve"] in commands
    bad = []
    for words in commands:
        if words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            variables = [word.partition("=")[0] for word in words[1:] if "=" in word]
            bad += [name for name in targets if not re.search(rf"^\.PHONY: {re.escape(name)}$", makefile, re.M)]
            bad += [name for name in variables if f"$({name})" not in makefile and f"({name})" not in makefile]
        elif words[:2] == ["azureml-classic-server", "quickstart"]:
            quickstart.parser().parse_args(words[2:])
        elif words[:2] == ["azureml-classic-server", "check"]:
            preview.parser().parse_args(words[2:])
        elif words[:1] == ["azureml-classic-server"] and words[1:2] in ([name] for name in backup.COMMANDS):
            backup.parser().parse_args(words[1:])
        elif words[0] == "azureml-classic-server" and words[1:]:
            parser().parse_args(words[1:])
    assert bad == []


def test_options_exist():
    """An option that stands alone in a sentence is one of our programs, or of `airflow backfill create`."""
    spans = {span for path in PAGES for span in re.findall(r"`(--[a-z-]+)", path.read_text())}
    server = {option for action in parser()._actions for option in action.option_strings}
    server |= set(re.findall(r"--[a-z-]+", inspect.getsource(backup.parser)))
    shell = set(
        re.findall(r"--[a-z-]+", (ROOT / "airflow_provider_azureml_classic" / "cli" / "arguments.py").read_text())
    )
    shell |= {f"--no-{option.removeprefix('--')}" for option in shell & {"--only-if-newer"}}
    backfill = {"--max-active-runs", "--run-backwards", "--reprocess-behavior", "--dag-run-conf"}
    assert sorted(spans - server - shell - backfill) == []


@pytest.mark.slow
def test_commands_of_the_command_line_exist():
    """Every call of `azureml-classic` in a guide has arguments that it takes."""
    from airflow_provider_azureml_classic.cli.arguments import parser as command_line

    lines = re.findall(
        r"^\$ (?:eval \"\$\()?azureml-classic ([^)\n]*)",
        "\n".join(text for text in map(Path.read_text, DOCUMENTS)),
        re.M,
    )
    assert len(lines) > 5
    for line in lines:
        command_line().parse_args(shlex.split(line))


@pytest.mark.filterwarnings("ignore")
def test_airflow_commands_exist():
    """Airflow's command line takes the commands of the guides, and the DAGs that they name are here."""
    from airflow.cli.cli_parser import get_parser

    commands = [words for words in _commands() if words[0] == "airflow"]
    assert len(commands) > 5
    for words in commands:
        said = get_parser().parse_args(words[1:])
        dag = getattr(said, "dag_id", None)
        assert dag is None or (ROOT / "dags" / f"{dag}.py").exists(), words


def test_settings_of_airflow_exist():
    """Every setting of Airflow that a guide names is one."""
    text = "\n".join(path.read_text() for path in PAGES)
    named = {(s.lower(), k.lower()) for s, k in re.findall(r"AIRFLOW__([A-Z]+)__([A-Z_]+)", text)}
    named |= set(re.findall(r"`\[([a-z_]+)\]\s+([a-z_]+)`", text))
    assert ("core", "test_connection") in named
    assert sorted(pair for pair in named if conf.get(*pair, fallback=None) is None) == []


def _texts() -> list[str]:
    """Every text in the package's code; what is filled in is left out."""
    found = []
    for path in (ROOT / "airflow_provider_azureml_classic").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append("\0".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.slow
def test_messages_are_those_of_the_code():
    """What a guide quotes of a message is in the code, so that a reader who searches for it finds it."""
    texts, quoted, rows = _texts(), [], 0
    for path in PAGES:
        reading = False
        for line in path.read_text().splitlines():
            reading = line.startswith("|") and (reading or line.startswith(("| the message holds", "| it says")))
            found = re.findall(r"`([^`]+)`", line.split("|")[1]) if reading else []
            rows += len(found)
            parts = [part.strip(" '") for message in found for part in re.split(r"\.\.\.|\d+", message)]
            quoted += [part for part in parts if part and part != "Connection success!"]
    assert rows > 20
    assert sorted({part for part in quoted if not any(part in text for text in texts)}) == []


def test_render_takes_marked_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A part is what stands between its marks, else the definition of the name with its comment; indentation goes."""
    source = "with x:\n    # [START one]\n    a = 1\n    # [END one]\n    # Why.\n    two = 2\n"
    (tmp_path / "x.py").write_text(source)
    monkeypatch.setattr(_render(), "ROOT", tmp_path)
    page = "<!-- code: x.py one -->\n```python\n```\n<!-- code: x.py two -->\n```python\nold\n```\n"
    made = _render().rendered(page)
    assert made == page.replace("```python\n```", "```python\na = 1\n```").replace("old", "# Why.\ntwo = 2")
    with pytest.raises(LookupError, match="three"):
        _render().rendered("<!-- code: x.py three -->\n```python\n```\n")
