"""The wait for the proof of an update, in the triggerer; the rules of :mod:`.triggers` hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.exceptions import ProtocolError
from airflow_provider_azureml_classic.job_ticket import JobTicket
from airflow_provider_azureml_classic.proof import Evaluation, GoldenRows, Level, Placed, evaluations
from airflow_provider_azureml_classic.triggers import EndpointTrigger

if TYPE_CHECKING:
    from airflow_provider_azureml_classic.client import AsyncClient
    from airflow_provider_azureml_classic.protocol.values import Endpoint

#: Seconds between two looks for a proof.
PROOF_INTERVAL = 5.0


class ProofTrigger(EndpointTrigger):
    """Waits until a model that was put in place is seen to be live. What an endpoint answers to the golden rows is
    asked here if the job that made them is known; in any case the worker asks again.

    :param placed: what has to be seen, as :class:`~airflow_provider_azureml_classic.proof.Placed` writes it.
    :param trained_by: the job whose evaluation carries the golden rows: ``web_service``, ``endpoint``, ``job_id``.
    :param options: see :class:`EndpointTrigger`.
    """

    def __init__(self, *, placed: dict[str, Any], trained_by: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.placed = placed
        self.trained_by = trained_by
        self._golden: GoldenRows | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, for the database."""
        path, arguments = super().serialize()
        return path, {**arguments, "placed": self.placed, "trained_by": self.trained_by}

    @property
    def payload(self) -> dict[str, Any]:
        """What the event says."""
        return {"placed": self.placed, "deadline": self.deadline}

    async def look(self, client: AsyncClient, endpoint: Endpoint) -> bool:
        """Whether the worker has a chance to prove it."""
        placed = Placed.from_json(self.placed)
        now = await client.get_endpoint(self.web_service_id, self.endpoint)
        if placed.missing(now) is not None:
            return False
        if placed.level is not Level.SCORE or self.trained_by is None:
            return True
        golden = self._golden = self._golden or await self._golden_rows(
            client, JobTicket.of(self.trained_by, None, None, "")
        )
        return golden is None or golden.agrees(await client.score(now, golden.rows))

    async def _golden_rows(self, client: AsyncClient, ticket: JobTicket) -> GoldenRows | None:
        service = await client.find_web_service(ticket.web_service)
        job = await client.get_job(await client.get_endpoint(service.id, ticket.endpoint), ticket.job_id)
        for place in evaluations(job):
            try:
                return Evaluation.read(await client.fetch_blob(place)).golden
            except ProtocolError:  # no evaluation, but another CSV file
                continue
        return None
