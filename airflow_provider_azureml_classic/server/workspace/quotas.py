"""How much a customer may have who is kept apart, and how much he has."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.customers import Quota, Usage
from airflow_provider_azureml_classic.protocol.moments import moment_text
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.state.quota_store import QuotaStore
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.storage.locations import Locations
from airflow_provider_azureml_classic.server.storage.scope import Scope


class Quotas:
    """Knows quotas, and refuses what is beyond them.

    :param store: where they are kept.
    :param locations: knows how much is in a folder.
    :param clock: gives the present time.
    """

    def __init__(self, store: QuotaStore, locations: Locations, clock: Clock) -> None:
        self._store = store
        self._locations = locations
        self._clock = clock

    def quota(self, row: EndpointRow) -> Quota:
        """What a customer may have.

        :param row: an endpoint of his.
        """
        return self._store.quota(_customer(row))

    def set(self, row: EndpointRow, quota: Quota) -> None:
        """Change what a customer may have.

        :param row: an endpoint of his.
        :param quota: from now on.
        """
        self._store.set_quota(_customer(row), quota)

    def usage(self, row: EndpointRow) -> Usage:
        """What a customer has.

        :param row: an endpoint of his.
        """
        customer, (begin, end) = _customer(row), self._day()
        return Usage(self._store.jobs_since(customer, begin), self._kept(customer), end)

    def check_job(self, row: EndpointRow) -> None:
        """Refuse a job that is beyond a quota; endpoints of nobody in particular have none.

        :param row: the endpoint that it is submitted to.
        :raises AccessDenied: ``JobQuotaExceeded``, which says until when, or ``ByteQuotaExceeded``.
        """
        if row.customer is None:
            return
        most = self._store.quota(row.customer).jobs_a_day
        if most is not None and self._store.jobs_since(row.customer, self._day()[0]) >= most:
            raise self.no_more_jobs(most)
        self.check_bytes(row.customer, 0)

    def counted(self, row: EndpointRow) -> tuple[str, datetime] | None:
        """Whose quota a job counts against, and since when his jobs do; ``None``: nobody's.

        :param row: the endpoint that it is submitted to.
        """
        return (row.customer, self._day()[0]) if row.customer else None

    def no_more_jobs(self, most: int) -> AzureMLClassicError:
        """The refusal of a job, which says until when.

        :param most: jobs a day.
        """
        return rejection(
            "JobQuotaExceeded",
            f"The quota is {most} jobs a day (JobsPerDay), and all were submitted. The next may be submitted at "
            f"{moment_text(self._day()[1])}.",
        )

    def check_bytes(self, customer: str, more: int) -> None:
        """Refuse what would be kept beyond a quota.

        :param customer: whose it is.
        :param more: bytes that are to be kept besides those that are.
        :raises AccessDenied: ``ByteQuotaExceeded``.
        """
        most = self._store.quota(customer).bytes_kept
        if most is None:
            return
        length = self._kept(customer)
        if length + more > most or (not more and length >= most):
            raise rejection(
                "ByteQuotaExceeded",
                f"The quota is {most:,} bytes kept (BytesKept), and {length:,} are: until files are removed "
                "(DELETE /customer/files/NAME) or the quota is raised, nothing more is taken.",
            )

    def _kept(self, customer: str) -> int:
        return sum(length for _, length in self._locations.listed(Scope(customer)))

    def _day(self) -> tuple[datetime, datetime]:
        begin = self._clock().replace(hour=0, minute=0, second=0, microsecond=0)
        return begin, begin + timedelta(days=1)


def _customer(row: EndpointRow) -> str:
    if row.customer is None:
        raise rejection(
            "OperationNotSupported",
            'Quotas are of customers who are kept apart: the experiment is declared without isolation = "customer".',
        )
    return row.customer
