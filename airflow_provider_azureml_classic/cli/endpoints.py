"""``azureml-classic endpoints``: see, add, change, update, delete."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_azureml_classic.cli.session import DONE, KEPT, REFUSED, Session, pairs
from airflow_provider_azureml_classic.cli.views import ENDPOINT_COLUMNS, endpoint_view, metric_text
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.keys import KeyType
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import (
    DEFAULT_ENDPOINT,
    MAX_STALE_AFTER,
    Endpoint,
    EndpointSettings,
    ThrottleLevel,
    TraceLevel,
    check_endpoint_name,
    is_check_endpoint,
)
from airflow_provider_azureml_classic.retraining.customers import find_trainer
from airflow_provider_azureml_classic.retraining.placing import Candidate, Placing, Target, find_target
from airflow_provider_azureml_classic.retraining.rehearsing import Rehearsing

#: What `top` shows.
_TOP = ("web_service", "name", "stale", "age", "stale_after", "trained_to", "metric", "job", "description")
#: Endpoints of a list whose live models are asked for, each by a call, unless all are wanted.
_ASKED = 50
_NOT_ASKED = {"metric": None, "job": None}


def found(session: Session) -> Endpoint:
    """The endpoint that the arguments name.

    :param session: with ``service`` and ``endpoint``.
    """
    service = session.client.find_web_service(session.arguments.service)
    return session.client.get_endpoint(service.id, session.arguments.endpoint)


def list_endpoints(session: Session) -> int:
    """All endpoints of a web service."""
    service = session.client.find_web_service(session.arguments.service)
    endpoints = [row for row in session.client.list_endpoints(service.id) if not is_check_endpoint(row.name)]
    wanted = endpoints if session.arguments.long else endpoints[:_ASKED]
    live = _live_models(session, wanted)
    rows = [{**endpoint_view(row), **live.get((row.web_service_id, row.name), _NOT_ASKED)} for row in endpoints]
    session.out.rows(rows, ENDPOINT_COLUMNS)
    if len(wanted) < len(endpoints):
        session.out.say(f"Metric and job are those of the first {_ASKED} endpoints; --long asks for all.")
    return DONE


def _live_models(session: Session, endpoints: Sequence[Endpoint]) -> dict[tuple[str, str], dict[str, Any]]:
    """Metric and job of the models that are live, by web service and endpoint: a call for each; none where the service
    does not tell.
    """
    live = {}
    for endpoint in endpoints:
        names = endpoint.web_service_id, endpoint.name
        try:
            models = session.client.list_models(*names, limit=1).models if endpoint.resources else ()
        except NotFound:
            continue  # it was deleted meanwhile
        except RequestRejected:
            break
        live[names] = {"metric": metric_text(models[0].metrics), "job": models[0].job_id} if models else _NOT_ASKED
    return live


def top(session: Session) -> int:
    """The endpoints that need attention first, over all web services: stale ones, then the oldest models."""
    rows = []
    for service in session.client.list_web_services():
        for endpoint in session.client.list_endpoints(service.id):
            # The default endpoint keeps its model for ever; a training service's has none.
            is_shown = endpoint.resources and endpoint.name != DEFAULT_ENDPOINT and not is_check_endpoint(endpoint.name)
            rows += [(endpoint, {"web_service": service.name, **endpoint_view(endpoint)})] if is_shown else []
    rows.sort(key=lambda row: _attention(row[1]))
    shown = rows[: session.arguments.limit]
    live = _live_models(session, [endpoint for endpoint, _ in shown])
    told = [{**row, **live.get((endpoint.web_service_id, endpoint.name), _NOT_ASKED)} for endpoint, row in shown]
    session.out.rows(told, _TOP)
    if len(rows) > session.arguments.limit:
        session.out.say(f"{len(rows) - session.arguments.limit} more; --limit shows them.")
    return DONE


def _attention(row: dict[str, Any]) -> tuple[bool, bool, Any]:
    return row["stale"] is not True, row["trained_to"] is not None, row["trained_to"] or 0


def show_endpoint(session: Session) -> int:
    """One endpoint."""
    session.out.record(endpoint_view(found(session), keys=session.arguments.keys))
    return DONE


def _settings(session: Session) -> EndpointSettings:
    arguments = session.arguments
    return EndpointSettings(
        description=arguments.description,
        throttle_level=ThrottleLevel(arguments.throttle_level) if arguments.throttle_level else None,
        max_concurrent_calls=arguments.max_concurrent_calls,
        prevent_update=arguments.prevent_update,
        sample_data_enabled=arguments.sample_data,
        diagnostics_trace_level=TraceLevel(arguments.trace_level) if arguments.trace_level else None,
        stale_after=None if arguments.stale_after is None else _age(arguments.stale_after),
    )


def _age(text: str) -> timedelta:
    """``36h`` or ``7d``; ``none`` is no length."""
    if text.lower() == "none":
        return timedelta()
    match = re.fullmatch(r"([0-9]{1,5})([hd])", text.lower())
    age = timedelta(**{"hours" if match[2] == "h" else "days": int(match[1])}) if match else timedelta()
    if not timedelta() < age <= MAX_STALE_AFTER:
        raise ValueError(
            f"--stale-after is {text[:40]!r}; expected hours or days, such as 36h or 7d, "
            f"up to {MAX_STALE_AFTER.days}d; or none."
        )
    return age


def add_endpoint(session: Session) -> int:
    """Add an endpoint; one that is there already is an error unless ``--if-exists keep``."""
    name = check_endpoint_name(session.arguments.endpoint)
    service = session.client.find_web_service(session.arguments.service)
    there = {row.name: row for row in session.client.list_endpoints(service.id)}
    if name in there:
        if session.arguments.if_exists == "fail":
            raise ValueError(f"Endpoint {name!r} is there already; use `endpoints set`, or --if-exists keep.")
        session.out.record(endpoint_view(there[name]))
        return DONE
    session.out.record(endpoint_view(session.client.add_endpoint(service.id, name, _settings(session))))
    return DONE


def set_endpoint(session: Session) -> int:
    """Change settings of an endpoint."""
    settings = _settings(session)
    if settings == EndpointSettings():
        raise ValueError("Nothing to change was given; see `azureml-classic endpoints set --help`.")
    endpoint = found(session)
    session.client.patch_endpoint(endpoint, settings)
    session.out.record(endpoint_view(session.client.get_endpoint(endpoint.web_service_id, endpoint.name)))
    return DONE


def update_endpoint(session: Session) -> int:
    """Put a trained model live, and prove it as far as the endpoint's description shows it."""
    arguments, client = session.arguments, session.client
    candidate = Candidate(_model(session), None)
    placing = Placing(
        client, lambda reference: reference, session.out.say, proof="resource", rehearsing=rehearsing(session)
    )

    def find() -> Program[tuple[Target, Candidate]]:
        return (yield from find_target(client, arguments.service, arguments.endpoint, arguments.resource)), candidate

    update = client.perform(placing.place(find))
    if isinstance(update, str):
        session.out.say(update)
    else:
        client.perform(placing.prove(update))
    session.out.record(endpoint_view(found(session)))
    return KEPT if isinstance(update, str) else DONE


def rehearsing(session: Session) -> Rehearsing:
    """How the update is rehearsed.

    :param session: with ``rehearsal`` and ``max_change``.
    """
    limits = {}
    for name, text in pairs(session.arguments.max_change, "--max-change", None):
        try:
            limits[name] = float(text)
        except ValueError:
            raise ValueError(f"--max-change {name}={text}: expected a number.") from None
    return Rehearsing.of(session.arguments.rehearsal, limits or None)


def _model(session: Session) -> BlobReference:
    """The model that the arguments name: a reference, or the output of a finished job."""
    arguments, access = session.arguments, session.access
    if arguments.model:
        return (
            access.signed(arguments.model, "r", session.client)
            if access.storage
            else BlobReference.parse(arguments.model)
        )
    client, trainer = session.client, session.client.find_web_service(arguments.trainer)
    endpoint = client.perform(find_trainer(client, trainer.id, arguments.trainer_endpoint, arguments.endpoint))
    job = client.get_job(endpoint, arguments.job)
    job.raise_unless_finished()
    return job.output(extension=MODEL_EXTENSION)[1]


def refresh_endpoint(session: Session) -> int:
    """Bring an endpoint to the state of the default one."""
    endpoint, overwrite = found(session), session.arguments.overwrite_models
    if overwrite and not session.sure(f"Replacing the models of {endpoint.name!r} by the default endpoint's"):
        return REFUSED
    changed = session.client.refresh_endpoint(endpoint.web_service_id, endpoint.name, overwrite_resources=overwrite)
    session.out.say("Refreshed." if changed else "Nothing had to change.")
    return DONE


def regenerate_key(session: Session) -> int:
    """Replace one key; the other one stays valid."""
    endpoint, which = found(session), KeyType[session.arguments.key.upper()]
    if not session.sure(f"Replacing the {session.arguments.key} key of {endpoint.name!r}"):
        return REFUSED
    changed = session.client.regenerate_key(endpoint.web_service_id, endpoint.name, which)
    session.out.record(endpoint_view(changed, keys=session.arguments.keys))
    return DONE


def delete_endpoint(session: Session) -> int:
    """Delete an endpoint."""
    endpoint = found(session)
    if not session.sure(f"Deleting endpoint {endpoint.name!r}"):
        return REFUSED
    session.client.delete_endpoint(endpoint.web_service_id, endpoint.name)
    session.out.say(f"Deleted {endpoint.name!r}.")
    return DONE
