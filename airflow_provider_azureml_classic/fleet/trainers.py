"""Who trains for the endpoints of a fleet: one endpoint for all, or each customer's own where they are kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Row
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.submitting import JobRunner

#: Customers' endpoints that are remembered; more are read again. As many jobs as are ever in flight.
_MOST = 256


@dataclass(frozen=True)
class Trainers:
    """Finds the endpoint that trains for a customer, as something that runs jobs there.

    :param client: of the workspace; blocking or asynchronous.
    :param options: of the fleet.
    :param shared: the endpoint that trains for all; ``None``: each customer has one of his own.
    :param warn: takes lines for the log. Of thousands of endpoints only warnings are for it; the rows say how each
        ended.
    """

    client: Verbs
    options: Options
    shared: Endpoint | None
    warn: Callable[[str], object]
    _own: dict[str, Endpoint] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def find(cls, client: Verbs, options: Options, warn: Callable[[str], object]) -> Program[Trainers]:
        """Those of a fleet.

        :param client: of the workspace.
        :param options: of the fleet.
        :param warn: takes lines for the log.
        """
        shared: Endpoint | None = None
        if not options.paired:
            shared = yield Verbs.get_endpoint.steps(client, options.training_id, options.training_endpoint)
        return cls(client, options, shared, warn)

    def runner(self, customer: str) -> Program[JobRunner]:
        """Runs the jobs of a customer.

        :param customer: name of the scoring endpoint.
        :raises NotFound: he has no endpoint of his own.
        """
        endpoint = self.shared or self._own.get(customer)
        if endpoint is None:
            endpoint = yield Verbs.get_endpoint.steps(self.client, self.options.training_id, customer)
            while len(self._own) >= _MOST:
                del self._own[next(iter(self._own))]
            self._own[customer] = endpoint
        return JobRunner(self.client, endpoint, _quiet, self.warn)

    def added(self, customer: str) -> Program[JobRunner]:
        """The same before a customer's first job: where he is to have an endpoint of his own and has none, he is added.

        :param customer: name of the scoring endpoint.
        """
        try:
            return (yield from self.runner(customer))
        except NotFound:
            if self.shared is not None:
                raise
        yield Verbs.add_endpoint.steps(self.client, self.options.scoring_id, customer)
        return (yield from self.runner(customer))

    def cancel(self, row: Row) -> Program[None]:
        """Cancel the job of a row; the log says so if that is not possible.

        :param row: with a job.
        """
        try:
            runner = yield from self.runner(row.endpoint)
        except AzureMLClassicError as error:
            self.warn(f"Job {row.job_id} could not be cancelled: {error}")
            return
        yield from runner.cancel(str(row.job_id))

    def cancel_all(self, rows: Iterable[Row]) -> Program[None]:
        """Cancel the jobs of rows, one after the other.

        :param rows: each with a job.
        """
        for row in rows:
            yield from self.cancel(row)


def _quiet(text: str) -> None:
    """Nothing."""
