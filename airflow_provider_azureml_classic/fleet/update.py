"""From a finished job to the proved update of one endpoint, as one program for either client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import UpdateNotProved
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Outcome, Row
from airflow_provider_azureml_classic.protocol.digests import same_model
from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.evaluation import Evaluation, evaluation_of
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.judging import Comparison, Report, Rules
from airflow_provider_azureml_classic.retraining.order import older_than_live
from airflow_provider_azureml_classic.retraining.placing import (
    Candidate,
    Overtaken,
    Placing,
    Target,
)
from airflow_provider_azureml_classic.retraining.proof import Patch, shows
from airflow_provider_azureml_classic.retraining.receipt import receipt_of


@dataclass(frozen=True)
class Updater:
    """Updates the endpoints of one scoring web service.

    :param placing: how models are put live.
    :param service: the scoring web service.
    :param options: of the fleet.
    :param save: keeps the rows; awaited before each PATCH, so that what was live before it is never forgotten.
    """

    placing: Placing
    service: WebService
    options: Options
    save: Callable[[], Awaitable[None]]

    @property
    def _client(self) -> Verbs:
        return self.placing.client

    def update(self, row: Row, job: Job) -> Program[None]:
        """Judge, compare windows, PATCH, prove; ``row`` holds the outcome.

        :param row: the endpoint.
        :param job: its finished job, as read just now.
        :raises AzureMLClassicError: the service refused.
        :raises ValueError: a metric that a rule names is missing.
        """
        evaluation = yield from evaluation_of(self._client, job, self.placing.log)
        rules = self.options.rules()
        # The same rules as the gate's: a metric that a rule names and that is missing is an error.
        report = Report.of(job.id, evaluation, rules)
        reference = self.placing.readable(trained_model(job, {"model_output": self.options.model_output}))
        trained_by = JobTicket(self.options.training_id, self.options.trainer_of(row.endpoint), job.id)
        window = Window.from_json(row.window)
        about = evaluation.golden, evaluation.metrics, job.model, job.window
        candidate = Candidate(reference, window, trained_by, *about)
        if rules.allowances and not report.reasons:
            yield from self._compare(report, rules, row, candidate, evaluation, job)
        if report.reasons:
            row.end(Outcome.KEPT, f"The new model is not good enough: {' '.join(report.reasons)}")
            return
        open_ = report.judgement.reasons[:1] if report.judgement and report.judgement.undecided else []
        yield from self._put_live(row, candidate, open_)

    def _compare(
        self, report: Report, rules: Rules, row: Row, candidate: Candidate, evaluation: Evaluation, job: Job
    ) -> Program[None]:
        """Compare with the live model, unless it is the new one."""
        endpoint: Endpoint = yield Verbs.get_endpoint.steps(self._client, self.service.id, row.endpoint)
        resource = endpoint.resource(self.options.resource)
        if not same_model(candidate.digests, resource.digests):
            comparison = Comparison(self._client, rules, endpoint, resource, candidate)
            yield from comparison.judge(report, evaluation, job.data_check)

    def _put_live(self, row: Row, candidate: Candidate, undecided: Sequence[str]) -> Program[None]:
        facts: BlobFacts | None = None
        outcome, notes = "Trained, put live, and proved", list[str]()

        def find() -> Program[tuple[Target, Candidate]]:
            endpoint: Endpoint = yield Verbs.get_endpoint.steps(self._client, self.service.id, row.endpoint)
            return Target(self.service, endpoint, endpoint.resource(self.options.resource)), candidate

        def remember(patch: Patch) -> Awaitable[None]:
            row.patch = patch.to_json()
            return self.save()

        def check(target: Target, candidate: Candidate) -> Program[str | None]:
            nonlocal facts, outcome
            reason = None
            if self.options.only_if_newer:
                reason = older_than_live(target, candidate, self.options.unknown_window, notes.append)
            if reason is None and candidate.location.base_location:
                facts = yield Verbs.blob_facts.steps(self._client, candidate.location)
            if shows(target.endpoint, target.resource.name, candidate.location):
                outcome = "Live already, and proved again"
            return reason

        earlier = Patch.from_json(row.patch) if row.patch else None
        update = yield from self.placing.place(find, check=check, earlier=earlier, remember=remember)
        if isinstance(update, str):
            row.end(Outcome.KEPT, update)
            return
        try:
            yield from self.placing.prove(update)
        except Overtaken as overtaken:
            row.end(Outcome.KEPT, str(overtaken))
            return
        except UpdateNotProved:
            row.patch = replace(update.patch, failed=True).to_json()
            raise
        if facts is None and candidate.location.base_location:
            facts = yield Verbs.blob_facts.steps(self._client, candidate.location)
        _updated(row, receipt_of(update, facts), [f"{outcome} by {update.patch.level.value}.", *undecided, *notes[-1:]])


def _updated(row: Row, receipt: dict[str, Any], notes: Sequence[str]) -> None:
    """End a row that was updated; without the figures of its rehearsal, as thousands of them are too much for Airflow's
    database.
    """
    rehearsal = receipt["rehearsal"] or {}
    told = {name: rehearsal[name] for name in rehearsal if name != "figures"} or None
    row.receipt, row.patch = {**receipt, "rehearsal": told}, None
    row.end(Outcome.UPDATED, " ".join([*notes, *([rehearsal["text"]] if rehearsal.get("unusual") else [])]))


def sentence(error: Exception) -> str:
    """An error as a row's reason.

    :param error: from a call, or from a rule.
    """
    return str(error) or type(error).__name__


def ended_badly(row: Row, error: Exception) -> None:
    """End a row that went wrong.

    :param row: the endpoint.
    :param error: the reason.
    """
    put_back = isinstance(error, UpdateNotProved) and error.put_back
    row.end(Outcome.ROLLED_BACK if put_back else Outcome.FAILED, sentence(error))
