"""What an export says of itself: who answers the same, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_provider_azureml_classic.exporting.comparing import Exported
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.exporting.package import Package, Target
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.moments import stamp
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource
from airflow_provider_azureml_classic.tables.kinds import DATE

MARKDOWN, JSON = "export-report.md", "export-report.json"
#: Beside the models of an endpoint.
VERSIONS = "versions.json"


def facts_of(model: Model) -> dict[str, Any]:
    """What tells a model from others.

    :param model: of it.
    """
    dated = {"data_from": model.window[0], "data_to": model.window[1]} if model.window else {}
    return {
        "sha256": model.sha256,
        "trained": model.created,
        "rows": model.rows,
        **dated,
        "metrics": {name: value for name, value in model.metrics.items() if value is not None},
    }


def tags_of(model: Model, told: PastModel | Resource | None = None) -> dict[str, str]:
    """What tells a model from others, as texts, as tools keep them beside it.

    :param model: of it.
    :param told: what the service tells of it: the end of its training window, its place and job, when it was put live.
    """
    facts = facts_of(model)
    metrics = {f"metric {name}": value for name, value in facts.pop("metrics").items()}
    if told is not None:
        facts |= {"window_end": stamp(told.window_end), "location": told.location.location if told.location else None}
    if isinstance(told, PastModel):
        facts |= {"job": told.job_id, "put_live": stamp(told.put_live_at)}
    every = {"experiment": model.experiment, **facts, **metrics}
    return {name: str(value) for name, value in every.items() if value is not None}


def versions_json(packages: Sequence[Package], target: Target) -> bytes:
    """The list of all versions, the live one first, with what tells them apart.

    :param packages: the models.
    :param target: of the export.
    """
    live, *earlier = packages
    places = [".", *map(target.place, earlier)]
    versions = [
        {"version": one.version, "live": one is live, "place": place, "tags": dict(one.tags)}
        for one, place in zip(packages, places, strict=True)
    ]
    return (json.dumps({"name": live.name, "versions": versions}, indent=1) + "\n").encode()


def left_behind(endpoint: Endpoint, model: Model) -> list[str]:
    """What of an endpoint no export has.

    :param endpoint: of it.
    :param model: that is live on it.
    """
    left = [
        "The two keys of the endpoint: its clients need keys, and an address, of the new service.",
        f"The throttle level {endpoint.throttle_level} with {endpoint.max_concurrent_calls} concurrent calls, and the "
        f"trace level {endpoint.diagnostics_trace_level}: set what the new service has for them.",
        "Web service parameters, repeated input columns, jobs and their logs.",
    ]
    signs = [column.name for column in model.columns if column.takes_numbers and column.kind.missing]
    if signs:
        left.append(
            f"Signs of no value in columns of numbers ({', '.join(signs)}): the graph takes numbers, NaN for none."
        )
    days = [column.name for column in model.columns if column.kind.kind == DATE]
    if days:
        left.append(
            f"The refusal of cells that are no dates ({', '.join(days)}): to the graph they are no value. It reads "
            "times of day to the second, in UTC."
        )
    texts = [column.name for column in model.columns if column.is_text]
    if texts:
        left.append("Blanks around texts: the graph knows a category without them.")
    return left


def as_json(service: str, target: str, exports: Sequence[Exported]) -> str:
    """The report for programs.

    :param service: name of the web service.
    :param target: of the export.
    :param exports: one for each endpoint.
    """
    report = {"web_service": service, "to": target, "endpoints": [one.to_json() for one in exports]}
    return json.dumps(report, indent=1) + "\n"


def as_markdown(service: str, target: str, exports: Sequence[Exported]) -> str:
    """The report for people.

    :param service: name of the web service.
    :param target: of the export.
    :param exports: one for each endpoint.
    """
    lines = [f"# Export of {service} to {target}", ""]
    for one in exports:
        lines += [f"## {one.endpoint}: {one.outcome}", "", *_paragraphs(one), ""]
    return "\n".join(lines)


def _paragraphs(one: Exported) -> list[str]:
    if one.agreement is None:
        return [one.reason]
    agreement, facts = one.agreement, one.facts
    about = "" if agreement.number is None else f" ({agreement.number:.1e} in numbers)"
    unit = "of a probability" if agreement.number is None else "of the spread of the answers"
    dated = f", data from {facts['data_from']} to {facts['data_to']}" if "data_to" in facts else ""
    return [
        f"{agreement.rows} rows were answered by endpoint and export: {agreement.labels} with another label; "
        f"largest difference {agreement.difference:.1e} {unit}{about}.",
        "",
        f"Model file {facts['sha256']}, trained {facts['trained']} on {facts['rows']} rows{dated}.",
        "",
        f"Written: {', '.join(one.files)}. Versions, the live one first: {', '.join(one.versions)}; only that one was "
        "compared.",
        "",
        "Not taken along:",
        "",
        *(f"- {sentence}" for sentence in one.left),
    ]
