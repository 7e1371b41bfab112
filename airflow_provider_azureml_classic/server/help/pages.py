"""The help pages and API documents: facts in, HTML or JSON out. No credential opens them and none is in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from io import StringIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.references import DATA_EXTENSIONS, MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.swagger import example_parameters, execution_body
from airflow_provider_azureml_classic.protocol.tables import Table, write_output, write_results
from airflow_provider_azureml_classic.protocol.values import EndpointSettings, Resource
from airflow_provider_azureml_classic.server.help.description import Facts

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
#: The pages have neither script nor picture, and one style sheet.
SECURITY = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
#: Page -> its title; the address is the index's with the page's name below it.
PAGES = {
    ops.HELP_INDEX: ("index", "Overview"),
    ops.HELP_SCORE: ("score", "Request/response"),
    ops.HELP_JOBS: ("jobs", "Batch jobs"),
    ops.HELP_UPDATE: ("update", "Update resource"),
}
#: Stands for an endpoint that the reader has yet to add.
OTHER_ENDPOINT = "myendpoint"
_WIDTH = 92
# Only for show: an example must not change with the hour it is read at.
_THEN = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
_JOB = "7b6a5948372615f0e1d2c3b4a5968778"


def style() -> Response:
    """The style sheet of all pages."""
    return Response(200, {"content-type": "text/css; charset=utf-8", **SECURITY}, _style())


@cache
def _style() -> bytes:
    return (TEMPLATES / "help.css").read_bytes()


def page(operation: ops.Operation, facts: Facts) -> Response:
    """One help page.

    :param operation: a row of :data:`PAGES`.
    :param facts: about the endpoint.
    """
    name, title = PAGES[operation]
    context = {"page": name, "title": title, "facts": facts, "api": facts.api, **_links(facts)}
    details = {"score": _score, "jobs": _jobs, "update": _update}.get(name)
    context |= details(facts) if details else {}
    html = _environment().get_template(f"{name}.html").render(context)
    # The R client counts the page's bytes, and takes them for letters.
    body = html.encode("ascii", "xmlcharrefreplace")
    return Response(200, {"content-type": "text/html; charset=utf-8", **SECURITY}, body)


@cache
def _environment() -> Environment:
    # Imported here, as the server must start in under a second.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # A short JSON string is a string literal of Python, R and C#, too; long ones have lines of their own.
    environment.filters["quoted"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["quoted_in_r"] = lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    environment.filters["quoted_in_csharp"] = lambda text: '@"' + text.replace('"', '""') + '"'
    # Power Query doubles quotes; an identifier is quoted, too.
    environment.filters["power_query_text"] = lambda text: '"' + text.replace('"', '""') + '"'
    environment.filters["power_query"] = lambda text: '#"' + text.replace('"', '""') + '"'
    environment.filters["pretty"] = pretty
    environment.filters["python"] = repr
    return environment


def _links(facts: Facts) -> dict[str, Any]:
    """Addresses within the pages carry no host, so that they work under whatever name the server was reached."""
    prefix = urlsplit(facts.public_url).path
    names = {"workspace": facts.workspace, "service": facts.service, "endpoint_id": facts.guid}
    nav = [(page, title, operation.url(prefix, names)) for operation, (page, title) in PAGES.items()]
    return {
        "nav": nav,
        "links": {page: url for page, _, url in nav},
        "style_url": ops.HELP_STYLE.url(prefix, {}),
        "swagger_url": ops.below_api(ops.SWAGGER, facts.api.api_location, {}),
        "document_url": ops.API_DOCUMENT.url(facts.public_url, {**names, "endpoint": facts.guid}),
    }


def _score(facts: Facts) -> dict[str, Any]:
    if facts.answer is None:
        return {}
    in_objects = [(ops.FORMAT_PARAMETER, ops.SWAGGER_FORMAT)]
    forms = []
    for swagger, title, query in ((False, "Table form", []), (True, "List-of-objects form", in_objects)):
        request = execution_body(facts.api, swagger=swagger)
        output = write_output(facts.answer, swagger=swagger, details=False)
        url = ops.below_api(ops.SCORE, facts.api.api_location, {}, query)
        forms.append(
            {"title": title, "url": url, "request": request, "response": write_results({facts.api.output_name: output})}
        )
    return {"forms": forms, "table": forms[0], "details": "=".join(ops.WITH_TYPES), "key": None}


def samples(facts: Facts, key: str) -> str:
    """The samples of the page of request/response as HTML, with a key in them.

    :param facts: about an endpoint that scores.
    :param key: what stands for it, or itself.
    """
    return _environment().get_template("samples.html").render(api=facts.api, **{**_score(facts), "key": key})


def _jobs(facts: Facts) -> dict[str, Any]:
    output = facts.api.output_name
    extension = MODEL_EXTENSION if facts.api.training else DATA_EXTENSIONS[0]
    reference = BlobReference(f"results/january{extension}")
    files = zip(facts.api.batch_inputs, _files(), strict=False)
    inputs = {name: BlobReference(f"data/{file}.csv") for name, file in files}
    request = JobRequest(inputs, {output: reference}, example_parameters(facts.api))
    placed = BlobReference(
        reference.relative_location, "https://account.blob.core.windows.net/", "?sv=...&sp=r&sig=..."
    )
    job = Job(_JOB, JobStatus.FINISHED, {output: placed}, None, _THEN, _THEN, _THEN)
    names = {"job": "JOB_ID"}
    calls = (ops.SUBMIT_JOB, ops.START_JOB, ops.GET_JOB, ops.CANCEL_JOB)
    return {
        "urls": {call.name: ops.below_api(call, facts.api.api_location, names) for call in calls},
        "methods": {call.name: call.method for call in calls},
        "request": _without_empty(request.to_wire()),
        "job_id": _JOB,
        "done": job.to_wire(),
        "input": facts.api.input_name,
        "output": output,
        "csv": _csv(facts.api.example),
        "below": urlsplit(facts.api.api_location).path,
    }


def _files() -> Iterator[str]:
    yield "january"
    for number in count(2):
        yield f"january-{number}"


def _update(facts: Facts) -> dict[str, Any]:
    # Where the samples of the training service's page of jobs write, and what a result looks like.
    here = BlobReference(f"results/january{MODEL_EXTENSION}")
    reference = BlobReference(here.relative_location, "https://account.blob.core.windows.net/", "?sv=...&sp=r&sig=...")
    # The default endpoint's model cannot be replaced: its page shows the address of one that is still to be added.
    name = OTHER_ENDPOINT if facts.is_default else facts.api.endpoint
    names = {"workspace": facts.workspace, "service": facts.service, "endpoint": name}
    body, short = (
        EndpointSettings(resources=tuple(Resource(resource, where) for resource in facts.resources)).to_wire()
        for where in (reference, here)
    )
    return {
        "patch_url": ops.PATCH_ENDPOINT.url(facts.public_url, names),
        "endpoint": name,
        "body": _without_empty(body),
        "short": _without_empty(short),
    }


def _without_empty(data: Any) -> Any:
    """A body without its nulls and empty members, as one would write it by hand."""
    if isinstance(data, list):
        return [_without_empty(item) for item in data]
    if not isinstance(data, Mapping):
        return data
    members = {name: _without_empty(value) for name, value in data.items()}
    return {name: value for name, value in members.items() if value not in (None, "", {})}


def _csv(table: Table) -> str:
    stream = StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.column_names, *table.values])
    return stream.getvalue()


def pretty(data: Any, indent: int = 0) -> str:
    """JSON for reading: what fits stands on one line, and lists of plain values are filled like text.

    :param data: what :func:`json.dumps` takes.
    :param indent: of the line that it begins on.
    """
    flat = json.dumps(data, ensure_ascii=False)
    if not data or not isinstance(data, dict | list) or indent + len(flat) <= _WIDTH:
        return flat
    inner = " " * (indent + 2)
    if isinstance(data, dict):
        items = [f"{json.dumps(key, ensure_ascii=False)}: {pretty(value, indent + 2)}" for key, value in data.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{' ' * indent}}}"
    if any(isinstance(item, dict | list) for item in data):
        return "[\n" + ",\n".join(inner + pretty(item, indent + 2) for item in data) + f"\n{' ' * indent}]"
    return "[\n" + _filled([json.dumps(item, ensure_ascii=False) for item in data], inner) + f"\n{' ' * indent}]"


def _filled(items: list[str], inner: str) -> str:
    lines = [""]
    for item in items:
        if lines[-1] and len(inner) + len(lines[-1]) + len(item) + 2 > _WIDTH:
            lines.append("")
        lines[-1] += f" {item}," if lines[-1] else f"{item},"
    return "\n".join(inner + line for line in lines).rstrip(",")
