"""``azureml-classic import``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import DONE
from airflow_provider_azureml_classic.importing import dags, factory, pipelines, swagger

_REPORT, _DECLARATION = "import-report.md", ("experiment", "declaration")


def import_files(arguments: argparse.Namespace, out: Output) -> int:
    """Write a DAG file for each pipeline, one for many copies, or the declaration of an experiment; and a report."""
    files = factory.load(arguments.files)
    documents = [file for file in files if swagger.is_document(file[1])]
    _check_options(arguments, bool(documents))
    if not documents:
        return _pipelines(arguments, out, factory.read(files))
    if len(documents) < len(files):
        other = next(name for name, data in files if not swagger.is_document(data))
        raise ValueError(f"{other} is no API document, and {documents[0][0]} is one: import them in a call each.")
    return _declarations(arguments, out, documents)


def _check_options(arguments: argparse.Namespace, documents: bool) -> None:
    """Refuse what means nothing to the files that are imported."""
    without = ["--service"] if documents else ["--label", "--parameter"]
    given = next((option for option in without if getattr(arguments, option[2:])), None)
    if given is not None:
        what = "files of Data Factory" if documents else "API documents of web services"
        raise ValueError(f"{given} is for {what}, which these are not: leave it out.")


def _declarations(arguments: argparse.Namespace, out: Output, documents: list[tuple[str, Any]]) -> int:
    made = swagger.declarations(documents, arguments.label, dict(map(_sets, arguments.parameter)))
    findings = [finding for one in made for finding in one.findings]
    files = {f"{one.stem}.toml": one.toml for one in made} | {f"{one.stem}.csv": one.rows for one in made}
    report = ["# Import of API documents", "", *dags.to_do(findings, "web service"), ""]
    if len(files) < 2 * len(made):
        raise ValueError("Two experiments have the same name; import them into different folders, one call each.")
    _write(arguments, {**files, _REPORT: "\n".join(report)})
    out.rows([{"experiment": one.name, "declaration": f"{one.stem}.toml"} for one in made], _DECLARATION)
    out.say(f"What to replace, and what could not be taken along: {arguments.into / _REPORT}")
    return DONE


def _pipelines(arguments: argparse.Namespace, out: Output, read: factory.Factory) -> int:
    services = dict(_service(text) for text in arguments.service)
    plans = pipelines.Converter(read, services).plans()
    groups = [part for group in pipelines.copies(plans) for part in _fleets(group)]
    files = {f"{dags.dag_name(group)}.py": dags.dag_source(group) for group in groups}
    files[_REPORT] = dags.report(groups)
    if len(files) <= len(groups):
        raise ValueError("Two pipelines have the same name; import them into different folders, one call each.")
    _write(arguments, files)
    out.rows(
        [{"dag": dags.dag_name(group), "pipelines": len(group), "tasks": len(group[0].tasks)} for group in groups],
        ("dag", "pipelines", "tasks"),
    )
    out.say(f"What to fill in, and what to do by hand: {arguments.into / _REPORT}")
    return DONE


def _write(arguments: argparse.Namespace, files: Mapping[str, str]) -> None:
    there = [name for name in files if (arguments.into / name).exists() and not arguments.overwrite]
    if there:
        raise ValueError(f"{arguments.into / there[0]} is there already: name another folder, or say --overwrite.")
    arguments.into.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (arguments.into / name).write_text(text, encoding="utf-8")


def _sets(text: str) -> tuple[str, str]:
    name, equals, sets = text.rpartition("=")
    if not equals or not name or not sets:
        raise ValueError(f"--parameter {text!r} must be NAME=SETS, for example 'Number of trees=estimator.max_iter'.")
    return name, sets


def _fleets(group: list[pipelines.Plan]) -> list[list[pipelines.Plan]]:
    return [group] if len(group) >= dags.FLEET else [[plan] for plan in group]


def _service(text: str) -> tuple[str, tuple[str, str]]:
    linked, equals, named = text.partition("=")
    service, _, endpoint = named.partition("/")
    if not equals or not linked or not service:
        raise ValueError(
            f"--service {text!r} must be LINKED SERVICE=WEB SERVICE, with /ENDPOINT if it is not 'default'."
        )
    return linked.lower(), (service, endpoint or "default")
