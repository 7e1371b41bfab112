"""``azureml-classic import``."""

from __future__ import annotations

import argparse

from airflow_provider_azureml_classic.cli.output import Output
from airflow_provider_azureml_classic.cli.session import DONE
from airflow_provider_azureml_classic.importing import dags, factory, pipelines


def import_files(arguments: argparse.Namespace, out: Output) -> int:
    """Write a DAG file for each pipeline, one for many copies, and a report."""
    read = factory.read(arguments.files)
    services = dict(_service(text) for text in arguments.service)
    plans = list(pipelines.Converter(read, services).plans())
    groups = [part for group in pipelines.copies(plans) for part in _fleets(group)]
    files = {f"{dags.dag_name(group)}.py": dags.dag_source(group) for group in groups}
    files["import-report.md"] = dags.report(groups, read.findings)
    if len(files) <= len(groups):
        raise ValueError("Two pipelines have the same name; import them into different folders, one call each.")
    there = [name for name in files if (arguments.into / name).exists() and not arguments.overwrite]
    if there:
        raise ValueError(f"{arguments.into / there[0]} is there already: name another folder, or say --overwrite.")
    arguments.into.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (arguments.into / name).write_text(text, encoding="utf-8")
    out.rows(
        [{"dag": dags.dag_name(group), "pipelines": len(group), "tasks": len(group[0].tasks)} for group in groups],
        ("dag", "pipelines", "tasks"),
    )
    out.say(f"What to fill in, and what to do by hand: {arguments.into / 'import-report.md'}")
    return DONE


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
