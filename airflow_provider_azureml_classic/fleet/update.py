"""From a finished job to a proved update of one endpoint, as one program for either client."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import BlobFacts, Verbs
from airflow_provider_azureml_classic.exceptions import ProtocolError, UpdateNotProved
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Outcome, Row
from airflow_provider_azureml_classic.protocol.jobs import Job
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.placing import (
    RACES,
    Candidate,
    Placing,
    Target,
    older_than_live,
    receipt,
)
from airflow_provider_azureml_classic.retraining.proof import Evaluation, evaluations, shows
from airflow_provider_azureml_classic.retraining.quality import check_limits, finite, outside


@dataclass(frozen=True)
class Updater:
    """Updates the endpoints of one scoring web service.

    :param placing: how models are put in place.
    :param service: the scoring web service.
    :param options: of the fleet.
    """

    placing: Placing
    service: WebService
    options: Options

    @property
    def _client(self) -> Verbs:
        return self.placing.client

    def update(self, row: Row, job: Job) -> Program[None]:
        """Judge, compare windows, PATCH, prove; says in ``row`` how it ended.

        :param row: the endpoint.
        :param job: its finished job, as read just now.
        :raises AzureMLClassicError: the service refused; likewise ``ValueError`` for a metric that is missing.
        """
        evaluation = yield from self._evaluation(job)
        # The same rule as the gate's: a metric that a rule names and that is missing is an error.
        reasons = outside(finite(evaluation.metrics), check_limits(self.options.thresholds))
        if reasons:
            row.end(Outcome.KEPT, f"The new model is not good enough: {' '.join(reasons)}")
            return
        place = self.placing.readable(trained_model(job, {"model_output": self.options.model_output}))
        made_by = JobTicket(self.options.training_id, self.options.training_endpoint, job.id)
        candidate = Candidate(place, Window.from_json(row.window), made_by, evaluation.golden, evaluation.metrics)
        for _ in range(RACES):
            if (yield from self._put(row, candidate)):
                return
        raise UpdateNotProved(
            f"Endpoint {row.endpoint!r} was changed by somebody else {RACES} times in a row; nothing was updated."
        )

    def _put(self, row: Row, candidate: Candidate) -> Program[bool]:
        """False: the endpoint changed between look and PATCH."""
        endpoint: Endpoint = yield Verbs.get_endpoint.steps(self._client, self.service.id, row.endpoint)
        target = Target(self.service, endpoint, endpoint.resource(self.options.resource))
        why = older_than_live(target, candidate) if self.options.only_if_newer else None
        if why:
            row.end(Outcome.KEPT, why)
            return True
        facts: BlobFacts | None = None
        if candidate.location.base_location:
            facts = yield Verbs.blob_facts.steps(self._client, candidate.location)
        told = "Trained, put in place, and proved"
        if shows(endpoint, target.resource.name, candidate.location):
            told = "In place already, and proved again"
        placed = yield from self.placing.begin(target, candidate)
        if not (yield from self.placing.put(target, placed)):
            return False
        yield from self.placing.prove(target, candidate, placed)
        # Without the answers: nothing reads them from a row, and rows are kept within a limit of size.
        row.receipt = receipt(target, candidate, facts, replace(placed, answers=None))
        row.end(Outcome.UPDATED, f"{told} by {placed.level.value}.")
        return True

    def _evaluation(self, job: Job) -> Program[Evaluation]:
        """The job's evaluation; another service's may be absent, or be none that can be read."""
        for output in evaluations(job):
            try:
                return Evaluation.read((yield Verbs.fetch_blob.steps(self._client, output)))
            except ProtocolError as error:
                self.placing.say(f"{output.location} is no evaluation that can be read: {error}")
        return Evaluation({})


def sentence(error: Exception) -> str:
    """An error as a row tells it.

    :param error: of a call, or of a rule.
    """
    return str(error) or type(error).__name__


def ended_badly(row: Row, error: Exception) -> None:
    """Say in ``row`` what went wrong.

    :param row: the endpoint.
    :param error: what was raised.
    """
    put_back = isinstance(error, UpdateNotProved) and error.put_back
    row.end(Outcome.ROLLED_BACK if put_back else Outcome.FAILED, sentence(error))
