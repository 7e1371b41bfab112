"""Pages of one endpoint: its dashboard, its keys, a row scored, and the questions before what cannot be undone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

from starlette.responses import JSONResponse, Response

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.customers import Quota
from airflow_provider_azureml_classic.protocol.drift import EndpointDrift, Terms
from airflow_provider_azureml_classic.protocol.keys import KeyType, NamedKey, key_request
from airflow_provider_azureml_classic.protocol.references import window_end_of
from airflow_provider_azureml_classic.protocol.swagger import execution_body
from airflow_provider_azureml_classic.protocol.tables import RESULTS, Table, read_output
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    MAX_CONCURRENCY,
    MAX_STALE_AFTER,
    Endpoint,
    EndpointSettings,
    Resource,
    ThrottleLevel,
    TraceLevel,
)
from airflow_provider_azureml_classic.server.help.description import Facts
from airflow_provider_azureml_classic.server.help.pages import samples
from airflow_provider_azureml_classic.server.portal.chart import Failure, chart, direction, metric_names
from airflow_provider_azureml_classic.server.portal.jobs import job_of
from airflow_provider_azureml_classic.server.portal.rendering import NONE, day, figure, size, when
from airflow_provider_azureml_classic.server.portal.services import LEVELS
from airflow_provider_azureml_classic.server.portal.visit import Core, Go, Page, Visit
from airflow_provider_azureml_classic.server.state.overview import ModelLine
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ServiceRow

#: Entries of the history on the page.
SHOWN = 50
#: Rehearsals on the page.
_REHEARSALS = 10
#: Stands for the key in samples until somebody asks for it; the script puts it in.
KEY = "YOUR-KEY"
#: Most columns of a model that has samples on its page.
_SAMPLED = 100
#: Failed trainings on the chart.
_MARKED = 20
#: Days whose calls are on the page.
_DAYS = 30
#: What the form of the settings offers.
_CHOICES = {"levels": LEVELS, "traces": [level.value for level in TraceLevel], "most_calls": MAX_CONCURRENCY}
#: Larger numbers of days are not even turned into a time.
_MOST = 100_000


@dataclass(frozen=True)
class Answer:
    """What became of a row that was to be scored.

    :param cells: column and value of the answer.
    :param error: why there is none.
    """

    cells: tuple[tuple[str, Any], ...] = ()
    error: str = ""


def dashboard(visit: Visit) -> Page:
    """All about one endpoint."""
    service, row = visit.endpoint()
    return page(visit, service, row)


def page(visit: Visit, service: ServiceRow, row: EndpointRow, answer: Answer | None = None, **more: Any) -> Page:
    """An endpoint's page, or its customer's.

    :param visit: who looks.
    :param service: its web service.
    :param row: the endpoint.
    :param answer: to what was typed.
    :param more: instead of what it shows otherwise.
    """
    values = {**values_of(visit, service, row), "answer": answer, **more}
    bad = values["error"] or (answer and answer.error)
    return Page("customer" if visit.customer else "endpoint", values, 400 if bad else 200)


def _looked_after(visit: Visit, row: EndpointRow) -> dict[str, Any]:
    """Named keys and quota, as far as they are there and may be seen."""
    quotas = visit.core.customers.quotas if row.customer and visit.may(ops.GET_QUOTA.name) else None
    return {
        "keys": visit.core.keys.listed(row) if visit.may(ops.LIST_KEYS.name) else None,
        "made": None,
        "error": None,
        "failed_form": "",
        "quota": quotas.quota(row) if quotas else None,
        "usage": quotas.usage(row) if quotas else None,
    }


def values_of(visit: Visit, service: ServiceRow, row: EndpointRow) -> dict[str, Any]:
    """What there is to be shown of an endpoint.

    :param visit: who looks.
    :param service: its web service.
    :param row: the endpoint.
    """
    core = visit.core
    facts = core.describer.managed(core.settings.workspace_id, service.id, row.id)
    hour = core.traffic.hour(row.id)
    jobs, _ = core.job_queries.jobs(endpoint_id=row.id)
    return {
        "service": service,
        "row": row,
        "at": partial(visit.at, service, row),
        "endpoint": _without_keys(core.workspace.view(row)),
        "patch_url": _patch_url(core, service, row),
        "is_default": row.name == DEFAULT_ENDPOINT,
        "stale_after": timedelta(seconds=row.stale_after or core.queries.fresh_hours(service.id) * 3600),
        "failed": core.job_queries.failures([row.id]).get(row.id),
        **_CHOICES,
        **_models(visit, service, row),
        "facts": facts,
        "fields": _fields(visit, facts),
        "hour": hour,
        "drift": _drift(core, service, row),
        "busiest": max(max(hour.minutes), 1),
        "jobs": jobs[:5],
        "keeping": core.scoring.keeper.keeping(row, service.experiment),
        "kept": core.scoring.keeper.count(row),
        "samples": samples(facts, KEY) if row.resources and len(facts.api.inputs) <= _SAMPLED else "",
        "usage_days": _days(core, row, visit.now.toordinal()),
        "trainer": core.queries.training_service(service.experiment) if row.resources else None,
        "rehearsals": core.scoring.keeper.kept.rehearsals(row.id)[:_REHEARSALS],
        **_looked_after(visit, row),
    }


def _models(visit: Visit, service: ServiceRow, row: EndpointRow) -> dict[str, Any]:
    """The endpoint's models, those of its jobs that are not live among them, and the chart of one of their metrics."""
    core = visit.core
    history = core.queries.history(row.id)
    unused = core.queries.unused(row, service.experiment) if row.resources else []
    metrics = metric_names([*history, *unused])
    metric = visit.query.get("metric", "")
    metric = metric if metric in metrics else metrics[0] if metrics else ""
    live = next((model for model in history if model.live), None)
    return {
        "live": live,
        "models": _merged(history, unused)[:SHOWN],
        "more": max(0, len(history) + len(unused) - SHOWN),
        "chart": chart([*history, *unused], metric, _failures(core, service, row)) if metric else None,
        "metrics": metrics,
        "metric": metric,
        "cards": _metrics(live, metrics),
    }


def _failures(core: Core, service: ServiceRow, row: EndpointRow) -> list[Failure]:
    """Trainings for an endpoint that failed, for its chart."""
    found = []
    for line in core.job_queries.failed_for(row.name, service.experiment, _MARKED) if row.resources else ():
        request = core.jobs.facts(line.id).request
        ends = [request.purpose.end if request.purpose else None, *map(window_end_of, request.outputs.values())]
        found.append(Failure(line.id, line.end_time or line.created_at, next(filter(None, ends), None)))
    return found


def _days(core: Core, row: EndpointRow, today: int) -> list[tuple[date, int]]:
    """Calls that were answered on each of the last days, oldest first; today is the last one."""
    first = today - _DAYS + 1
    calls = core.queries.calls_by_day(row.id, first)
    return [(date.fromordinal(day), calls.get(day, 0)) for day in range(first, today + 1)]


def _drift(core: Core, service: ServiceRow, row: EndpointRow) -> EndpointDrift | None:
    """How far what is asked is from what was trained."""
    drifts = core.drift.of_service(service.id, Terms(), anew=False) if row.resources else ()
    return next((one for one in drifts if one.name == row.name), None)


def _patch_url(core: Core, service: ServiceRow, row: EndpointRow) -> str:
    """Address of an update."""
    names = {"workspace": core.settings.workspace_id, "service": service.id, "endpoint": row.name}
    return ops.PATCH_ENDPOINT.url(core.settings.public_url, names)


def _without_keys(endpoint: Endpoint) -> dict[str, Any]:
    """What the page shows of an endpoint; keys are left out here, so that no template can show them."""
    return {
        "name": endpoint.name,
        "score_url": ops.below_api(ops.SCORE, endpoint.api_location, {}),
        "jobs_url": ops.below_api(ops.SUBMIT_JOB, endpoint.api_location, {}),
        "resources": [resource.name for resource in endpoint.resources],
    }


def _merged(history: list[ModelLine], unused: list[ModelLine]) -> list[ModelLine]:
    """Newest first, by when a model was put in place or else trained."""
    dated = [(model.placed_at or model.created_at, index, model) for index, model in enumerate([*history, *unused])]
    return [
        model for at, index, model in sorted(dated, key=lambda one: (one[0] is None, one[0], -one[1]), reverse=True)
    ]


def _metrics(live: ModelLine | None, names: list[str]) -> list[tuple[str, float]]:
    return [(name, live.metrics[name]) for name in names if name in live.metrics][:4] if live else []


def _fields(visit: Visit, facts: Facts) -> list[dict[str, Any]]:
    """The fields of the test form: what was typed before, else the example."""
    example = facts.api.example.rows[0] if facts.api.example.values else {}
    return [
        {
            "column": name,
            "id": f"column-{number}",
            "number": kind == "Double",
            "optional": name in facts.api.optional,
            "value": visit.form.get(f"column-{number}", example.get(name, "")),
        }
        for number, (name, kind) in enumerate(facts.api.inputs)
    ]


def score(visit: Visit) -> Page:
    """Score the row that was typed."""
    service, row = visit.endpoint()
    core = visit.core
    facts = core.describer.managed(core.settings.workspace_id, service.id, row.id)
    cells = {field["column"]: str(field["value"]).strip() or None for field in _fields(visit, facts)}
    given = {name: cell for name, cell in cells.items() if cell is not None or name not in facts.api.optional}
    table = Table(tuple(given), [list(given.values())])
    try:
        body = execution_body(replace(facts.api, example=table), swagger=False)
        answer, _ = core.scoring.execute(row, lambda: body, uuid.uuid4().hex, swagger=False, details=False)
        answered = read_output(facts.api.output_name, answer[RESULTS][facts.api.output_name])
    except AzureMLClassicError as error:
        return page(visit, service, row, Answer(error=error.message))
    return page(visit, service, row, Answer(tuple(zip(answered.column_names, answered.values[0], strict=True))))


def keys(visit: Visit) -> Page | Response:
    """Show the keys to somebody who asked for them."""
    service, row = visit.endpoint()
    if visit.by_script:
        return JSONResponse({"primary": row.primary_key, "secondary": row.secondary_key})
    facts = visit.core.describer.managed(visit.core.settings.workspace_id, service.id, row.id)
    filled = samples(facts, row.primary_key) if row.resources else ""
    return Page("keys", {"service": service, "row": row, "samples": filled})


def new_key(visit: Visit, row: EndpointRow) -> NamedKey:
    """Make the named key that was asked for.

    :param visit: with what was typed.
    :param row: the endpoint.
    """
    kind, end = key_request({"Kind": visit.text("kind"), "ExpiresAt": visit.text("expires") or None})
    return visit.core.keys.make(row, visit.text("key"), kind, end)


def make_key(visit: Visit) -> Page:
    """Make a named key, and show it this once."""
    service, row = visit.endpoint()
    try:
        made = new_key(visit, row)
    except AzureMLClassicError as error:
        return page(visit, service, row, error=error, failed_form="key")
    return page(visit, service, row, made=made)


def revoke_key(visit: Visit) -> Go:
    """End a named key."""
    service, row = visit.endpoint()
    visit.core.keys.revoke(row, visit.text("key"))
    return Go(visit.at(service, row), f"The key {visit.text('key')} is revoked.")


def set_quota(visit: Visit) -> Page | Go:
    """Change what a customer may have."""
    service, row = visit.endpoint()
    try:
        quota = Quota.from_wire(Quota(visit.number("jobs_a_day"), visit.number("bytes_kept")).to_wire())
        visit.core.customers.quotas.set(row, quota)
    except AzureMLClassicError as error:
        return page(visit, service, row, error=error, failed_form="quota")
    return Go(visit.at(service, row), "The quota is set.")


#: What a customer may do by a question, and the operation that his key must open for it.
_OF_CUSTOMERS = {"rollback": "patch_endpoint", "use": "patch_endpoint"}
_OF_CUSTOMERS |= {f"regenerate-{key.value.lower()}": "regenerate_keys" for key in KeyType}


def check_action(visit: Visit, what: str) -> None:
    """Refuse what is not there for those who ask, as what is not there for anybody.

    :param visit: who asks.
    :param what: is to be done.
    """
    if visit.customer and not (what in _OF_CUSTOMERS and visit.may(_OF_CUSTOMERS[what])):
        raise rejection("PageNotFound", f"There is no question {what!r}.")


# -- questions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """A question before something is done, and how to do it.

    :param title: the question.
    :param text: what will happen.
    :param button: word of the button that does it.
    :param danger: it cannot be undone.
    """

    title: str
    text: str
    button: str
    danger: bool = True


def ask(visit: Visit) -> Page:
    """Ask before something is done."""
    service, row = visit.endpoint()
    check_action(visit, visit.segments["what"])
    number = visit.query.get("number", "")
    question = _question(visit, row, visit.segments["what"], number)
    values = {
        "question": question,
        "service": service,
        "row": row,
        "action": visit.at(service, row, "do", visit.segments["what"]),
        "fields": {"number": number} if number else {},
        "back": visit.at(service, row),
        "compared": _compared(visit, row, visit.segments["what"], number),
    }
    return Page("question", values)


def _compared(visit: Visit, row: EndpointRow, what: str, number: str) -> list[tuple[str, str, str, int]]:
    """The live model beside the one that would take its place: what is compared, both as texts, and 1 if the latter is
    the better one, -1 if the live one is.
    """
    history = visit.core.queries.history(row.id)
    live = next((one for one in history if one.live), None)
    if what == "rollback":
        other = next((one for one in history if str(one.number) == number), None)
    else:
        other = visit.core.queries.trained(number) if what == "use" and _may_use(visit, number) else None
    if live is None or other is None:
        return []
    both = (live, other)
    texts: list[tuple[str, Callable[[ModelLine], str]]] = [
        ("Data up to", lambda one: day(one.window_end) if one.window_end else "unknown"),
        ("Trained", lambda one: when(one.created_at)),
        ("Rows", lambda one: f"{one.rows:,}" if one.rows else NONE),
        ("Size", lambda one: size(one.length)),
    ]
    lines = [(name, _unbroken(text(live)), _unbroken(text(other)), 0) for name, text in texts]
    metrics = [(name, live.metrics.get(name), other.metrics.get(name)) for name in metric_names(list(both))]
    lines[3:3] = [(name, figure(old), figure(new), _better(name, old, new)) for name, old, new in metrics]
    rehearsals = visit.core.scoring.keeper.kept.rehearsals(row.id)
    found = next((rehearsal for digest, _, rehearsal in rehearsals if digest == other.digest), None)
    if found is not None and found.get("changed") is not None:
        lines.append((f"Answers that change, of the last {found['rows']:,} rows", NONE, f"{found['changed']:.1%}", 0))
    return lines


def _unbroken(date: str) -> str:
    """A date that no line ends within."""
    return date.replace("-", "\N{NON-BREAKING HYPHEN}")


def _better(metric: str, old: float | None, new: float | None) -> int:
    if old is None or new is None or old == new:
        return 0
    return direction(metric) * (1 if new > old else -1)


def _question(visit: Visit, row: EndpointRow, what: str, number: str) -> Question:
    name = row.name
    questions = {
        "delete": Question(
            f"Delete endpoint {name}?", "Its keys stop working at once, and its jobs and history are gone.", "Delete"
        ),
        "refresh": Question(
            f"Refresh endpoint {name}?",
            "It goes back to the model of the default endpoint, the one that the web service was born with. The model "
            "that is live now stays in the history.",
            "Refresh",
            danger=False,
        ),
    }
    for key in KeyType:
        questions[f"regenerate-{key.value.lower()}"] = Question(
            f"Regenerate the {key.value.lower()} key of {name}?",
            "The present key stops working at once. Whoever uses it has to be given the new one; the other key stays.",
            "Regenerate",
        )
    if what in ("rollback", "use"):
        questions[what] = _about_model(visit, row, what, number)
    if what not in questions:
        raise rejection("PageNotFound", f"There is no question {what!r}.")
    return questions[what]


def _about_model(visit: Visit, row: EndpointRow, what: str, number: str) -> Question:
    stays = "The model that is live now stays in the history."
    if what == "use":
        text = f"The model that job {number[:8]} has trained answers from then on. {stays}"
        return Question(f"Put this model live on {row.name}?", text, "Put live", danger=False)
    model = next((one for one in visit.core.queries.history(row.id) if str(one.number) == number), None)
    if model is None:
        raise rejection("BlobNotFound", f"Endpoint {row.name!r} has no model number {number!r} in its history.")
    place = f"{model.relative_location}, live from {model.placed_at:%Y-%m-%d %H:%M} UTC"
    text = f"{place}, answers from then on. {stays}"
    return Question(f"Roll back {row.name} to this model?", text, "Roll back", danger=False)


def do(visit: Visit) -> Go:
    """Do what was asked about."""
    service, row = visit.endpoint()
    workspace, what = visit.core.workspace, visit.segments["what"]
    check_action(visit, what)
    here = visit.at(service, row)
    if what == "delete":
        workspace.delete_endpoint(visit.caller, service.id, row.name)
        return Go(visit.path("services", service.id), f"Endpoint {row.name} is deleted.")
    if what == "refresh":
        changed = workspace.refresh(visit.caller, service.id, row.name, overwrite=True)
        return Go(here, "The model of the default endpoint is live." if changed else "Nothing had to be changed.")
    if what == "rollback":
        visit.core.updates.roll_back(visit.caller, service.id, row.name, visit.number("number") or 0)
        return Go(here, "The earlier model is live again.")
    if what == "use":
        _use(visit, service, row, visit.text("number"))
        return Go(here, "The model is live.")
    if what == "settings":
        workspace.change(row, _settings(visit))
        return Go(here, "The settings are changed.")
    if what == "limit":
        return Go(here, _limited(visit, service, row))
    if what == "keep":
        changed_row = workspace.keep_calls(service.id, row.name, visit.number("calls"))
        visit.core.scoring.keeper.settle(changed_row, service.experiment)
        calls = visit.core.scoring.keeper.keeping(changed_row, service.experiment).calls
        return Go(
            here, f"The last {calls:,} calls are kept." if calls else "No calls are kept; those that were are gone."
        )
    for key in KeyType:
        if what == f"regenerate-{key.value.lower()}":
            workspace.regenerate(visit.caller, service.id, row.name, key)
            return Go(here, f"The {key.value.lower()} key is a new one. Show the keys to copy it.")
    raise rejection("PageNotFound", f"There is no action {what!r}.")


def _settings(visit: Visit) -> EndpointSettings:
    """What the form says; none of it is about the model."""
    try:
        level, trace = ThrottleLevel(visit.text("throttle")), TraceLevel(visit.text("trace"))
    except ValueError:
        raise rejection("BadParameterValue", "Choose one of the levels offered.") from None
    return EndpointSettings(
        description=visit.text("description"),
        throttle_level=level,
        max_concurrent_calls=visit.number("concurrency") if level is ThrottleLevel.HIGH else None,
        sample_data_enabled=bool(visit.text("sample_data")),
        diagnostics_trace_level=trace,
        prevent_update=bool(visit.text("locked")),
    )


def _limited(visit: Visit, service: ServiceRow, row: EndpointRow) -> str:
    """Set after how long the model is stale, and say it."""
    amount, unit = visit.number("amount") or 0, "days" if visit.text("unit") == "days" else "hours"
    age = timedelta(**{unit: max(-1, min(amount, _MOST))})
    if not timedelta() <= age <= MAX_STALE_AFTER:
        raise rejection(
            "BadParameterValue", f"The limit must be at most {MAX_STALE_AFTER.days:,} days.", target="amount"
        )
    visit.core.workspace.change(row, EndpointSettings(stale_after=age))
    return f"The model is stale after {amount} {unit}." if amount else "The web service's limit holds."


def _may_use(visit: Visit, job_id: str) -> bool:
    return visit.customer is None or job_of(visit, job_id) is not None


def _use(visit: Visit, service: ServiceRow, row: EndpointRow, job_id: str) -> None:
    """Put the model of a finished job in place."""
    place = visit.core.jobs.model(job_id) if _may_use(visit, job_id) else None
    if place is None:
        raise rejection("JobNotFound", f"Job {job_id!r} has no trained model.", target=job_id)
    resource = visit.core.workspace.view(row).resource()
    settings = EndpointSettings(resources=(Resource(resource.name, place),))
    visit.core.updates.patch(visit.caller, service.id, row.name, settings, None)


_ONE = "/services/{service}/endpoints/{endpoint}"
ROUTES = (
    (_ONE, "GET", dashboard),
    (f"{_ONE}/score", "GET", dashboard),
    (f"{_ONE}/score", "POST", score),
    (f"{_ONE}/keys", "GET", dashboard),
    (f"{_ONE}/keys", "POST", keys),
    (f"{_ONE}/named-keys", "POST", make_key),
    (f"{_ONE}/named-keys/revoke", "POST", revoke_key),
    (f"{_ONE}/quota", "POST", set_quota),
    (f"{_ONE}/ask/{{what}}", "GET", ask),
    (f"{_ONE}/do/{{what}}", "POST", do),
)
