"""What an export says of itself: who answers the same, and what stays behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_provider_azureml_classic.exporting.comparing import Exported
from airflow_provider_azureml_classic.exporting.model import Model
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.tables.kinds import DATE

MARKDOWN, JSON = "export-report.md", "export-report.json"


def facts_of(model: Model) -> dict[str, Any]:
    """What tells a model from others.

    :param model: of it.
    """
    window = {"window_start": model.window[0], "window_end": model.window[1]} if model.window else {}
    return {
        "sha256": model.sha256,
        "trained": model.created,
        "rows": model.rows,
        **window,
        "metrics": {name: value for name, value in model.metrics.items() if value is not None},
    }


def tags_of(model: Model) -> dict[str, str]:
    """The same as texts, as tools keep them beside a model.

    :param model: of it.
    """
    facts = facts_of(model)
    metrics = {f"metric {name}": value for name, value in facts.pop("metrics").items()}
    return {"experiment": model.experiment, **{name: str(value) for name, value in {**facts, **metrics}.items()}}


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
    window = f", data from {facts['window_start']} to {facts['window_end']}" if "window_end" in facts else ""
    return [
        f"{agreement.rows} rows were answered by endpoint and export: {agreement.labels} with another label; "
        f"largest difference {agreement.difference:.1e} {unit}{about}.",
        "",
        f"Model file {facts['sha256']}, trained {facts['trained']} on {facts['rows']} rows{window}.",
        "",
        f"Written: {', '.join(one.files)}.",
        "",
        "Not taken along:",
        "",
        *(f"- {sentence}" for sentence in one.left),
    ]
