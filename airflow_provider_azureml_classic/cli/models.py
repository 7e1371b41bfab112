"""``azureml-classic history`` and ``rollback``: which models an endpoint had, and one of them put back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_provider_azureml_classic.cli.endpoints import found
from airflow_provider_azureml_classic.cli.session import DONE, KEPT, Session
from airflow_provider_azureml_classic.cli.views import metric_text
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.past_models import Choice, past_candidate, past_models, short
from airflow_provider_azureml_classic.retraining.placing import Candidate, Placing, Target, find_target
from airflow_provider_azureml_classic.retraining.receipt import receipt_of

_COLUMNS = ("window_end", "put_live_at", "how", "job", "metric", "digest", "kept", "live", "proof")


def history(session: Session) -> int:
    """The models that an endpoint had, the last one first."""
    endpoint = found(session)
    models = session.client.perform(past_models(session.client, endpoint))
    answering = _answering(session, endpoint) if any(model.is_live for model in models) else None
    several = len({model.resource for model in models}) > 1
    columns = ("resource", *_COLUMNS) if several else _COLUMNS
    session.out.rows([_view(model, None if several else answering) for model in models], columns)
    return DONE


def _answering(session: Session, endpoint: Endpoint) -> str | None:
    """The content digest of the model that answers just now; ``None``: the service does not tell."""
    try:
        return session.client.score_by(endpoint, Table((), []))[1]
    except AzureMLClassicError as error:
        session.out.say(f"Which model answers cannot be seen: {error}")
        return None


def _view(model: PastModel, answering: str | None) -> dict[str, Any]:
    digests, window = model.digests, model.window
    is_seen = model.is_live and answering is not None and digests is not None and answering == digests.content
    return {
        "resource": model.resource,
        "window_end": model.window_end,
        "put_live_at": _to_second(model.put_live_at),
        "how": model.how,
        "job": model.job_id,
        "metric": metric_text(model.metrics),
        "digest": short(digests),
        "kept": model.is_kept,
        "live": model.is_live,
        "proof": "content" if is_seen else None,
        "model": model.location.location,
        "digests": digests.to_json() if digests else None,
        "trained_at": window.trained_at if window else None,
        "last_time": window.last if window else None,
        "metrics": dict(model.metrics),
        "number": model.number,
    }


def _to_second(moment: datetime | None) -> datetime | None:
    return moment.replace(microsecond=0) if moment else None


def rollback(session: Session) -> int:
    """Put a model back that the endpoint had, proved as the operator proves it."""
    arguments, client = session.arguments, session.client
    choice = Choice(to_utc(arguments.window_end) if arguments.window_end else None, arguments.model or "")
    placing = Placing(client, session.access.readable, session.out.say, proof_timeout=arguments.proof_timeout)
    names = arguments.service, arguments.endpoint, arguments.resource
    before = client.perform(find_target(client, *names))
    candidate = client.perform(past_candidate(client, before, choice, session.access.readable))

    def find() -> Program[tuple[Target, Candidate]]:
        return (yield from find_target(client, *names)), candidate

    def check(target: Target, _: Candidate) -> Program[str | None]:
        yield from ()
        # What to put back was chosen by what was live then.
        if target.resource == before.resource:
            return None
        return f"Endpoint {target.endpoint.name!r} keeps its model: somebody else has just updated it."

    update = client.perform(placing.place(find, check=check))
    if isinstance(update, str):
        session.out.say(update)
        return KEPT
    client.perform(placing.prove(update))
    session.out.record(receipt_of(update, None))
    return DONE
