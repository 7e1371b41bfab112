"""``azureml-classic train``: from a file of data to a model that is good enough and live, in one command."""

from __future__ import annotations

import argparse
import secrets
import shlex
from datetime import UTC, datetime
from functools import partial
from typing import Any

from airflow_provider_azureml_classic.cli.endpoints import rehearsing
from airflow_provider_azureml_classic.cli.jobs import readable, send, waited
from airflow_provider_azureml_classic.cli.session import DONE, KEPT, Session, pairs
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.exceptions import NotFound, did_you_mean
from airflow_provider_azureml_classic.protocol.digests import same_model
from airflow_provider_azureml_classic.protocol.jobs import INPUT, MODEL_OUTPUT, Job, JobRequest
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import INPUT_EXTENSIONS, MODEL_EXTENSION, STAMP
from airflow_provider_azureml_classic.protocol.values import SCORING_SUFFIX, Endpoint, WebService
from airflow_provider_azureml_classic.retraining.customers import find_trainer, model_place
from airflow_provider_azureml_classic.retraining.data_contract import UNLIKE, as_expected, tell
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation, evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.judging import Comparison, Report, Rules
from airflow_provider_azureml_classic.retraining.order import older_than_live
from airflow_provider_azureml_classic.retraining.placing import (
    Candidate,
    Placing,
    Target,
    find_target,
)
from airflow_provider_azureml_classic.retraining.quality import METRICS, Allowance, check_limits, finite


def _rules(arguments: argparse.Namespace) -> Rules:
    """What the new model has to be, checked before anything is uploaded.

    :raises ValueError: not ``METRIC=NUMBER``, or a metric that cannot be computed.
    """
    limits: dict[str, dict[str, str]] = {}
    for bound in ("min", "max"):
        for name, value in pairs(getattr(arguments, bound), f"--{bound}", None):
            _check_limit(bound, name, value)
            limits.setdefault(name, {})[bound] = value
    allowed = dict(pairs(arguments.max_worse, "--max-worse", None))
    unknown = [name for name in allowed if name not in METRICS]
    if unknown:
        near = did_you_mean(unknown[0], METRICS)
        raise ValueError(f"--max-worse names {unknown[0]!r}; it may be one of: {', '.join(METRICS)}.{near}")
    allowances = {name: Allowance.parse(name, value) for name, value in allowed.items()}
    return Rules(check_limits(limits), allowances, METRICS, arguments.on_undecided, arguments.allow_training_metrics)


def _check_limit(bound: str, name: str, value: str) -> None:
    """Refuse, in the words of the command line, what is no limit; and a misspelt metric, which would only be refused
    after a training. One that is like none is let through: services may have metrics of their own.

    :raises ValueError: no number, or a metric that is misspelt.
    """
    try:
        float(value)
    except ValueError:
        raise ValueError(f"--{bound} {name}={value}: expected a number, as in --{bound} AUC=0.9.") from None
    near = "" if name in METRICS else did_you_mean(name, METRICS)
    if near:
        raise ValueError(f"--{bound} names {name!r}, which is no metric that is known.{near}")


def train(session: Session) -> int:
    """Upload, train, judge, and put live if that is wanted and the model is good enough."""
    arguments, client = session.arguments, session.client
    rules, window = _rules(arguments), _window(arguments)
    rehearsing(session)
    scoring, trainer = _services(session)
    # What cannot be updated is told before anything is trained for it.
    target = client.perform(find_target(client, scoring.id, arguments.endpoint, arguments.resource))
    endpoint = client.perform(find_trainer(client, trainer.id, arguments.trainer_endpoint, arguments.endpoint))
    data = _uploaded(session, endpoint)
    job = _run(session, endpoint, _request(session, data, endpoint, target, window))
    evaluation = client.perform(evaluation_of(client, job, session.out.say))
    tell(job.data_check, session.out.say, session.out.say)
    model, ticket = job.output(extension=MODEL_EXTENSION)[1], JobTicket(trainer.id, endpoint.name, job.id)
    golden, metrics = evaluation.golden, evaluation.metrics
    candidate = Candidate(readable(session, model), window, ticket, golden, metrics, job.model, job.window)
    reasons = _judged(session, target, candidate, job, evaluation, rules)
    if arguments.put_live and not reasons:
        reasons += _put_live(session, target, candidate)
    outcome = "kept" if reasons else "live" if arguments.put_live else "trained"
    result = {"job": job.id, "data": data, "model": model.location, "metrics": finite(evaluation.metrics)}
    session.out.record({**result, "outcome": outcome, "reasons": reasons})
    if reasons:
        session.out.say(f"Endpoint {target.endpoint.name!r} keeps its model. {' '.join(reasons)}")
    elif not arguments.put_live:
        words = ["azureml-classic", "endpoints", "update", scoring.name, target.endpoint.name, "--job", job.id]
        session.out.say(f"Not live yet. Put it live: {shlex.join([*words, '--trainer', trainer.name])}")
    return KEPT if reasons else DONE


def _request(session: Session, data: str, trainer: Endpoint, target: Target, window: Window | None) -> JobRequest:
    access, outputs, names = session.access, {}, session.client.names(trainer)
    start, end = (window.start, window.end) if window else (None, None)
    if window:
        path = model_place(trainer, trainer.web_service_id, target.endpoint.name, window)
        outputs[names.output or MODEL_OUTPUT] = access.place(path)
    return JobRequest(
        inputs={names.input or INPUT: access.place(data)},
        outputs=outputs,
        global_parameters=dict(pairs(session.arguments.parameter, "--parameter", None)),
        purpose=Purpose(target.endpoint.name, target.service.id, start, end, session.arguments.data_check),
    )


def _run(session: Session, endpoint: Endpoint, request: JobRequest) -> Job:
    """Submit, start and wait; the finished job."""
    job_id = session.client.submit_job(endpoint, request)
    session.client.start_job(endpoint, job_id)
    session.out.say(f"Job {job_id} is started.")
    job = waited(session, endpoint, job_id)
    job.raise_unless_finished()
    return job


def _window(arguments: argparse.Namespace) -> Window | None:
    start, end = (to_utc(text) if text else None for text in (arguments.window_start, arguments.window_end))
    if start and not end:
        raise ValueError("--window-start needs --window-end: a model is as new as the end of its data.")
    return Window(end, start) if end else None


def _services(session: Session) -> tuple[WebService, WebService]:
    """The scoring web service, and the one that trains for it; either may be named on the command line."""
    name, client = session.arguments.service, session.client
    named = client.find_web_service(name)
    if session.arguments.trainer:
        return named, client.find_web_service(session.arguments.trainer)
    experiment = named.name.removesuffix(SCORING_SUFFIX)
    try:
        return client.find_web_service(experiment + SCORING_SUFFIX), client.find_web_service(experiment)
    except NotFound as error:
        raise NotFound(
            f"Which web service trains for {named.name!r} cannot be told from its name: {error.message}",
            hint="Name the scoring web service, and the training one with --trainer.",
        ) from error


def _uploaded(session: Session, trainer: Endpoint) -> str:
    """Send the file to where the training endpoint reads it; returns its place."""
    path, endpoint = session.arguments.file, session.arguments.endpoint
    extension = path.suffix.lower()
    if extension not in INPUT_EXTENSIONS:
        raise ValueError(f"{path} must end in {', '.join(INPUT_EXTENSIONS)}: the extension tells the format.")
    name = f"training/{endpoint}/{datetime.now(UTC):{STAMP}}-{secrets.token_hex(3)}{extension}"
    # Where customers are kept apart, a job reads its own customer's folder only.
    place = "/".join(filter(None, (trainer.folder, name)))
    send(session, path, session.access.signed(place, "cw", session.client))
    return place


def _judged(
    session: Session, target: Target, candidate: Candidate, job: Job, evaluation: Evaluation, rules: Rules
) -> list[str]:
    """Why the new model is not good enough, one sentence each."""
    report, client = Report.of(job.id, evaluation, rules), session.client
    if rules.allowances and not report.reasons:
        comparison = Comparison(client, rules, target.endpoint, target.resource, candidate)
        client.perform(comparison.judge(report, evaluation, job.data_check))
    elif session.arguments.put_live and as_expected(job.data_check) is False:
        report.reasons.append(f"{UNLIKE} If it is meant to be so, say --data-check off.")
    for line in (report.text(rules), *report.notes):
        session.out.say(line)
    return report.reasons


def _put_live(session: Session, target: Target, candidate: Candidate) -> list[str]:
    """Put the model live and prove it; why that was not done, if it was not."""
    client = session.client
    placing = Placing(client, partial(readable, session), session.out.say, rehearsing=rehearsing(session))
    older = list[str]()

    def find() -> Program[tuple[Target, Candidate]]:
        name = target.resource.name
        return (yield from find_target(client, target.service.id, target.endpoint.name, name)), candidate

    def check(live: Target, _: Candidate) -> Program[str | None]:
        yield from ()
        reason = _older(session, live, candidate)
        older[:] = [f"{reason} If it is meant to be so, say --no-only-if-newer."] if reason else []
        return reason

    update: Any = client.perform(placing.place(find, check=check))
    if older:
        return older
    if isinstance(update, str):
        session.out.say(update)
        live = client.get_endpoint(target.service.id, target.endpoint.name).resource(target.resource.name)
        return [] if same_model(candidate.digests, live.digests) else [update]
    client.perform(placing.prove(update))
    return []


def _older(session: Session, live: Target, candidate: Candidate) -> str | None:
    """Why a model must not replace the live one: that was trained on newer data."""
    if not session.arguments.only_if_newer:
        return None
    try:
        return older_than_live(live, candidate, "replace", session.out.say)
    except ValueError:
        if candidate.window is not None:
            raise
        session.out.say(
            "It is not known up to when these data go, nor so whether the live model was trained on newer ones: it is "
            "replaced, and the age of the new one is unknown. --window-end tells it."
        )
        return None
