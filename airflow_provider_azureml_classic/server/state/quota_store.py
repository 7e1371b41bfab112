"""Quotas of customers, and what counts against them."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.customers import Quota
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import endpoints, jobs, put, quotas


def jobs_used_up(connection: sa.Connection, customer: str, begin: datetime) -> int | None:
    """The quota of jobs of a customer, if it is used up. Jobs of his that are submitted at the same time are counted
    one after the other: the quota is locked until the transaction ends.

    :param connection: of the transaction that registers a job.
    :param customer: his id.
    :param begin: since when jobs count.
    """
    query = sa.select(quotas.c.jobs_a_day).where(quotas.c.customer == customer).with_for_update()
    most: int | None = connection.execute(query).scalar()
    return most if most is not None and _jobs_since(connection, customer, begin) >= most else None


def _jobs_since(connection: sa.Connection, customer: str, begin: datetime) -> int:
    query = sa.select(sa.func.count()).select_from(jobs).join(endpoints, endpoints.c.id == jobs.c.endpoint_id)
    query = query.where(endpoints.c.customer == customer, jobs.c.created_at >= begin)
    return int(connection.execute(query).scalar_one())


class QuotaStore:
    """The quotas of a workspace.

    :param database: where they are kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def quota(self, customer: str) -> Quota:
        """The quota of a customer; without one, no limit.

        :param customer: his id.
        """
        query = sa.select(quotas.c.jobs_a_day, quotas.c.bytes_kept).where(quotas.c.customer == customer)
        with self._db.read() as connection:
            row = connection.execute(query).first()
        return Quota(*row) if row else Quota()

    def set_quota(self, customer: str, quota: Quota) -> None:
        """Put a quota in the place of another.

        :param customer: his id.
        :param quota: the new one.
        """
        values = {"jobs_a_day": quota.jobs_a_day, "bytes_kept": quota.bytes_kept}
        with self._db.write() as connection:
            put(connection, quotas, {"customer": customer, **values})

    def jobs_since(self, customer: str, begin: datetime) -> int:
        """How many jobs a customer has submitted.

        :param customer: his id.
        :param begin: since when.
        """
        with self._db.read() as connection:
            return _jobs_since(connection, customer, begin)
