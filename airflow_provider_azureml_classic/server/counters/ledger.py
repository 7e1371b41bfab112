"""Counts of what endpoints are asked, in the database: summed over all servers, kept by endpoint, model and day.

Nothing else is kept of a call. Counts go with their endpoint, and after :data:`KEPT_DAYS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from airflow_provider_azureml_classic.protocol.values import is_check_endpoint
from airflow_provider_azureml_classic.server.experiments.histogram import Expected, Histogram
from airflow_provider_azureml_classic.server.state.database import Database
from airflow_provider_azureml_classic.server.state.tables import asked, endpoints, model_bins, resources

#: Days whose counts are kept.
KEPT_DAYS = 31
#: Endpoints that are written in one transaction.
_AT_ONCE = 200
_NEW_BINS = {
    "sqlite": sqlite.insert(model_bins).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(model_bins).on_conflict_do_nothing(),
}
_NEW = {
    "sqlite": sqlite.insert(asked).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(asked).on_conflict_do_nothing(),
}
_CHANGE = (
    sa.update(asked)
    .where(
        asked.c.endpoint_id == sa.bindparam("of_endpoint"),
        asked.c.digest == sa.bindparam("of_model"),
        asked.c.day == sa.bindparam("of_day"),
    )
    .values({name: sa.bindparam(f"new_{name}") for name in ("calls", "rows", "counted", "counts")})
)


class Key(NamedTuple):
    """What counts belong to.

    :param endpoint_id: GUID.
    :param digest: SHA-256 of the file of the model that answered.
    :param day: of UTC, as an ordinal.
    """

    endpoint_id: str
    digest: str
    day: int


@dataclass(frozen=True)
class Sum:
    """Calls, summed.

    :param calls: how many.
    :param rows: in them.
    :param counted: of the rows, those that are in the counts.
    :param counts: rows in each bin of each feature, see :meth:`~.histogram.Histogram.count`.
    """

    calls: int
    rows: int
    counted: int
    counts: Sequence[int]

    def __add__(self, other: Sum) -> Sum:
        counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        return Sum(self.calls + other.calls, self.rows + other.rows, self.counted + other.counted, counts)


@dataclass(frozen=True)
class Asked:
    """What an endpoint was asked of the model that is live on it.

    :param name: of the endpoint.
    :param digest: SHA-256 of the model's file.
    :param content: digest of what the model answers with, if it is known.
    :param since: first of the days that are summed; ``None``: there was no call.
    :param total: of these days.
    """

    name: str
    digest: str
    content: str | None
    since: int | None = None
    total: Sum | None = None


@dataclass(frozen=True)
class ModelBins:
    """The bins of a model.

    :param rows: of its training; 0: not known.
    :param features: what of each feature they were.
    """

    rows: int
    features: tuple[Expected, ...]


T = TypeVar("T", str, Key)


class Ledger:
    """Reads and writes the counts.

    :param database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, sums: dict[Key, Sum], histograms: Mapping[str, Histogram]) -> None:
        """Add to the counts; those of endpoints that were deleted meanwhile are dropped.

        :param sums: what to add; what was written is taken out of it.
        :param histograms: of their models, by digest.
        :raises DatabaseDown: what is left in ``sums`` was not written.
        """
        dialect = self._db.engine.dialect.name
        for keys in _parts(sums):
            part = {key: sums[key] for key in keys}
            with self._db.write() as connection:
                self._add(connection, part, histograms, dialect)
            for key in keys:
                del sums[key]

    def _add(
        self, connection: sa.Connection, part: dict[Key, Sum], histograms: Mapping[str, Histogram], dialect: str
    ) -> None:
        ids = {key.endpoint_id for key in part}
        held = sa.select(endpoints.c.id).where(endpoints.c.id.in_(ids)).with_for_update(read=True, key_share=True)
        there = set(connection.execute(held).scalars())
        part = {key: value for key, value in part.items() if key.endpoint_id in there}
        if not part:
            return
        for digest in sorted({key.digest for key in part}):
            connection.execute(_NEW_BINS[dialect], _bins_row(digest, histograms[digest]))
        nothing = {"calls": 0, "rows": 0, "counted": 0, "counts": []}
        connection.execute(_NEW[dialect], [{**key._asdict(), **nothing} for key in part])
        query = sa.select(asked).where(asked.c.endpoint_id.in_(there), asked.c.day.in_({key.day for key in part}))
        changes = []
        for row in connection.execute(query.order_by(*asked.primary_key).with_for_update()):
            key = Key(row.endpoint_id, row.digest, row.day)
            if key in part:
                changes.append(_change(key, _added(part[key], row)))
        connection.execute(_CHANGE, changes)

    def of_service(self, service_id: str, since: int) -> list[Asked]:
        """What each endpoint of a web service was asked of its live model, by name.

        :param service_id: its id.
        :param since: first day that counts.
        """
        live = resources.c.endpoint_id == endpoints.c.id
        query = (
            sa.select(endpoints.c.name, resources.c.digest, resources.c.content, asked)
            .join(resources, live)
            .outerjoin(
                asked,
                sa.and_(
                    asked.c.endpoint_id == endpoints.c.id, asked.c.digest == resources.c.digest, asked.c.day >= since
                ),
            )
            .where(endpoints.c.service_id == service_id)
            .order_by(endpoints.c.name, asked.c.day)
        )
        found: dict[str, Asked] = {}
        with self._db.read() as connection:
            for name, digest, content, *values in connection.execute(query):
                if is_check_endpoint(name):
                    continue
                row = dict(zip(asked.c.keys(), values, strict=True))
                one = found.setdefault(name, Asked(name, digest, content, row["day"]))
                if row["day"] is not None:
                    day = Sum(row["calls"], row["rows"], row["counted"], row["counts"])
                    found[name] = replace(one, total=one.total + day if one.total else day)
        return list(found.values())

    def bins(self, digests: Collection[str]) -> dict[str, ModelBins]:
        """The bins of models that were asked, by digest.

        :param digests: of the models.
        """
        found: dict[str, ModelBins] = {}
        with self._db.read() as connection:
            for some in _parts(set(digests)):
                for row in connection.execute(sa.select(model_bins).where(model_bins.c.digest.in_(some))):
                    features = tuple(Expected(name, bins, _shares(shares)) for name, bins, shares in row.features)
                    found[row.digest] = ModelBins(row.rows, features)
        return found

    def services(self) -> list[str]:
        """Ids of the web services whose endpoints were asked anything."""
        query = sa.select(endpoints.c.service_id).join(asked, asked.c.endpoint_id == endpoints.c.id).distinct()
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def forget(self, before: int) -> None:
        """Remove old counts.

        :param before: the first day that is kept.
        """
        with self._db.write() as connection:
            connection.execute(sa.delete(asked).where(asked.c.day < before))
            connection.execute(sa.delete(model_bins).where(model_bins.c.digest.not_in(sa.select(asked.c.digest))))


def _parts(items: Collection[T]) -> Iterator[list[T]]:
    """A few at a time, in one order: two servers must not wait for each other."""
    ordered = iter(sorted(items))
    while part := list(islice(ordered, _AT_ONCE)):
        yield part


def _bins_row(digest: str, histogram: Histogram) -> dict[str, Any]:
    features = [[one.name, one.bins, one.shares] for one in histogram.expected]
    return {"digest": digest, "rows": histogram.rows, "features": features}


def _shares(shares: Sequence[float] | None) -> tuple[float, ...] | None:
    return tuple(shares) if shares is not None else None


def _added(more: Sum, row: Any) -> Sum:
    before = Sum(row.calls, row.rows, row.counted, row.counts)
    # A later version may make other bins of the same model.
    return before + more if len(before.counts) == len(more.counts) else more


def _change(key: Key, value: Sum) -> dict[str, Any]:
    return {
        "of_endpoint": key.endpoint_id,
        "of_model": key.digest,
        "of_day": key.day,
        "new_calls": value.calls,
        "new_rows": value.rows,
        "new_counted": value.counted,
        "new_counts": list(value.counts),
    }
