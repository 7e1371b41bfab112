"""What the pages ask the database: all SQL of the portal. Nothing here reads a key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from threading import Lock
from time import monotonic
from typing import Any

import sqlalchemy as sa

from airflow_provider_azureml_classic.protocol.jobs import JobStatus
from airflow_provider_azureml_classic.protocol.values import CHECK_ENDPOINT, CHECK_PREFIX, DEFAULT_ENDPOINT
from airflow_provider_azureml_classic.server.state.database import Database, to_row
from airflow_provider_azureml_classic.server.state.history import How
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    asked,
    endpoints,
    freshness_limits,
    jobs,
    model_files,
    placements,
    put,
    trained_models,
    web_services,
)

#: Lines of one page of a list.
LINES = 25
#: Ids in one statement.
_AT_ONCE = 500
#: From so many endpoints on, their state is asked for once in so many seconds: it takes a second or more.
MANY, KEPT_SECONDS = 10_000, 30.0
#: Endpoints that are said to need attention, of each kind.
_ATTENTION = 5
#: Hours after which a model counts as stale, unless the endpoint or its web service has a limit.
FRESH_HOURS = 24 * 7
#: Models on one chart.
CHARTED = 200
SORTS = ("name", "freshness", "placed", "created")
FRESH, STALE, UNKNOWN, FAILED = "fresh", "stale", "unknown", "failed"
_ENDED = tuple(status.value for status in JobStatus if status.terminal)


@dataclass(frozen=True)
class ServiceLine:
    """What the list of web services says of one, besides itself: its last retrain and its jobs under way."""

    retrained_at: datetime | None
    under_way: int


@dataclass(frozen=True)
class EndpointLine:
    """An endpoint in a list, with its live model; what is not known is ``None``."""

    id: str
    service_id: str
    name: str
    description: str | None
    created_at: datetime
    prevent_update: bool
    relative_location: str | None
    placed_at: datetime | None
    how: str | None
    window_end: datetime | None
    trained_at: datetime | None
    stale_after: int
    failed: bool


@dataclass(frozen=True)
class Counts:
    """Endpoints of a web service by the freshness of their models, and those whose last retrain failed.

    Default endpoints count as one of ``all`` only: their model cannot be replaced, so its age is nobody's fault.
    """

    all: int = 0
    fresh: int = 0
    stale: int = 0
    unknown: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class ModelLine:
    """A model that an endpoint had, or a retrain for it that was never put in place (``number`` is ``None``)."""

    number: int | None
    digest: str
    relative_location: str
    base_location: str
    window_end: datetime | None
    placed_at: datetime | None
    how: str | None
    live: bool
    job_id: str | None
    length: int | None
    rows: int | None
    window_start: datetime | None
    created_at: datetime | None
    metrics: dict[str, float]
    content: str | None
    approval: dict[str, Any] | None = None
    resource: str | None = None
    told_end: datetime | None = None
    last_time: datetime | None = None


_placed_at, _trained_at = endpoints.alias("placed_at"), endpoints.alias("trained_at")
_WINDOW_END = sa.func.coalesce(placements.c.window_end, model_files.c.window_end, type_=placements.c.window_end.type)
TRAINED_END = sa.func.coalesce(
    trained_models.c.window_end, model_files.c.window_end, type_=placements.c.window_end.type
)
#: Seconds after which the model of an endpoint is stale.
_LIMIT = sa.func.coalesce(endpoints.c.stale_after, freshness_limits.c.hours * 3600, FRESH_HOURS * 3600)
_FRESH = sa.extract("epoch", _WINDOW_END) + _LIMIT >= sa.bindparam("now_seconds")
# The name is compared with the expression only where it begins like one: that is slow.
_FOR_PEOPLE = ~(
    endpoints.c.name.startswith(CHECK_PREFIX) & endpoints.c.name.regexp_match(f"^{CHECK_ENDPOINT.pattern}$")
)
_RETRAINED = endpoints.c.name != DEFAULT_ENDPOINT
_LIVE = sa.and_(placements.c.endpoint_id == endpoints.c.id, placements.c.live)
_WITH_MODELS = (
    endpoints.outerjoin(placements, _LIVE)
    .outerjoin(model_files, model_files.c.digest == placements.c.digest)
    .outerjoin(freshness_limits, freshness_limits.c.service_id == endpoints.c.service_id)
)


_run_at, _trainer = endpoints.alias("run_at"), web_services.alias("trainer")
_target, _served = endpoints.alias("target"), web_services.alias("served")
_later, _later_at = jobs.alias("later"), endpoints.alias("later_at")
#: Failed trainings, newest first, of endpoints for which no model was trained, and in which none was put, since.
FAILURES = (
    sa.select(_target.c.id.label("endpoint_id"), jobs.c.id.label("job_id"))
    .select_from(jobs)
    .join(_run_at, _run_at.c.id == jobs.c.endpoint_id)
    .join(_trainer, sa.and_(_trainer.c.id == _run_at.c.service_id, _trainer.c.training))
    .join(_served, sa.and_(_served.c.experiment == _trainer.c.experiment, ~_served.c.training))
    .join(_target, sa.and_(_target.c.service_id == _served.c.id, _target.c.name == jobs.c.for_endpoint))
    .where(
        jobs.c.status == JobStatus.FAILED.value,
        _target.c.name != DEFAULT_ENDPOINT,
        ~sa.exists().where(placements.c.endpoint_id == _target.c.id, placements.c.placed_at >= jobs.c.created_at),
        ~sa.exists().where(
            _later.c.for_endpoint == jobs.c.for_endpoint,
            _later.c.status == JobStatus.FINISHED.value,
            _later.c.created_at > jobs.c.created_at,
            _later_at.c.id == _later.c.endpoint_id,
            _later_at.c.service_id == _run_at.c.service_id,
        ),
    )
    .order_by(jobs.c.created_at.desc())
)
# Not correlated, so that it is asked once for all endpoints: there are few failed jobs.
_FAILED = endpoints.c.id.in_(sa.select(FAILURES.order_by(None).subquery().c.endpoint_id))


def _written_by(*also: sa.ColumnElement[bool]) -> sa.ScalarSelect[Any]:
    """The job that wrote the model of a placement; where customers are kept apart, not another's with an equal one.

    :param also: what its model has in common with the placement besides the bytes.
    """
    own = sa.or_(_placed_at.c.customer.is_(None), _placed_at.c.customer == _trained_at.c.customer)
    return (
        sa.select(sa.func.max(trained_models.c.job_id))
        .join(jobs, jobs.c.id == trained_models.c.job_id)
        .join(_trained_at, _trained_at.c.id == jobs.c.endpoint_id)
        .join(_placed_at, _placed_at.c.id == placements.c.endpoint_id)
        .where(trained_models.c.digest == placements.c.digest, own, *also)
        .correlate(placements)
        .scalar_subquery()
    )


_SAME_WINDOW = trained_models.c.window_end == placements.c.window_end
_SAME_PLACE = trained_models.c.relative_location == placements.c.relative_location
#: Several jobs may have written the same bytes.
_WRITTEN_BY = sa.func.coalesce(
    _written_by(_SAME_WINDOW, _SAME_PLACE), _written_by(_SAME_WINDOW), _written_by(_SAME_PLACE), _written_by()
)


class Queries:
    """Reads for the pages.

    :param database: where the state is kept.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._lock = Lock()
        self._kept: tuple[float, tuple[dict[str, Counts], list[EndpointLine]] | None] = 0.0, None

    # -- web services ------------------------------------------------------------------------------------------------

    def service_lines(self) -> dict[str, ServiceLine]:
        """By id of the web service; one without retrains and jobs is absent."""
        placed = (
            sa.select(endpoints.c.service_id, sa.func.max(placements.c.placed_at))
            .join(placements, _LIVE)
            .where(placements.c.how != How.ADDED.value)
            .group_by(endpoints.c.service_id)
        )
        ended = (
            sa.select(
                endpoints.c.service_id,
                sa.func.max(sa.case((jobs.c.status == JobStatus.FINISHED.value, jobs.c.end_time))),
                sa.func.sum(sa.case((sa.and_(jobs.c.status.not_in(_ENDED), jobs.c.place.is_not(None)), 1), else_=0)),
            )
            .join(jobs, jobs.c.endpoint_id == endpoints.c.id)
            .join(web_services, web_services.c.id == endpoints.c.service_id)
            .group_by(endpoints.c.service_id, web_services.c.training)
            .add_columns(web_services.c.training)
        )
        with self._db.read() as connection:
            retrained: dict[str, datetime | None] = {name: at for name, at in connection.execute(placed)}
            rows = connection.execute(ended).all()
        under_way = {}
        for name, at, running, training in rows:
            under_way[name] = int(running or 0)
            if training:
                retrained[name] = at
        names = {*retrained, *under_way}
        return {name: ServiceLine(retrained.get(name), under_way.get(name, 0)) for name in names}

    def calls_on(self, day: int) -> dict[str, int]:
        """Scoring calls that were answered, by id of the web service; one without any is absent.

        :param day: of UTC, as an ordinal.
        """
        query = (
            sa.select(endpoints.c.service_id, sa.func.sum(asked.c.calls))
            .join(asked, asked.c.endpoint_id == endpoints.c.id)
            .where(asked.c.day == day)
            .group_by(endpoints.c.service_id)
        )
        with self._db.read() as connection:
            return {name: int(calls) for name, calls in connection.execute(query)}

    def calls_by_day(self, endpoint_id: str, since: int) -> dict[int, int]:
        """Scoring calls of an endpoint that were answered, by day of UTC, as an ordinal; a day without any is absent.

        :param endpoint_id: the endpoint.
        :param since: first day that is wanted.
        """
        query = (
            sa.select(asked.c.day, sa.func.sum(asked.c.calls))
            .where(asked.c.endpoint_id == endpoint_id, asked.c.day >= since)
            .group_by(asked.c.day)
        )
        with self._db.read() as connection:
            return {day: int(calls) for day, calls in connection.execute(query)}

    def services_of_endpoints(self, endpoint_ids: Iterable[str]) -> dict[str, str]:
        """Web service id by endpoint id; those that are not there any more are left out."""
        query = sa.select(endpoints.c.id, endpoints.c.service_id)
        wanted, owners = list(endpoint_ids), {}
        with self._db.read() as connection:
            for first in range(0, len(wanted), _AT_ONCE):
                some = query.where(endpoints.c.id.in_(wanted[first : first + _AT_ONCE]))
                owners.update({name: service for name, service in connection.execute(some)})
        return owners

    def fresh_hours(self, service_id: str) -> int:
        """After how many hours a model of this web service is stale, unless its endpoint has a limit of its own."""
        query = sa.select(freshness_limits.c.hours).where(freshness_limits.c.service_id == service_id)
        with self._db.read() as connection:
            return connection.execute(query).scalar() or FRESH_HOURS

    def set_fresh_hours(self, service_id: str, hours: int) -> None:
        """Set the limit of a web service."""
        with self._db.write() as connection:
            put(connection, freshness_limits, {"service_id": service_id, "hours": hours})

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def has_endpoint(self, service_id: str, name: str) -> bool:
        """Whether a web service has an endpoint of this name."""
        query = sa.select(endpoints.c.id).where(endpoints.c.service_id == service_id, endpoints.c.name == name)
        with self._db.read() as connection:
            return connection.execute(query).first() is not None

    def counts(self, now: datetime, service_id: str = "") -> dict[str, Counts]:
        """Endpoints by freshness, by id of the web service; of those that score.

        :param now: the present time.
        :param service_id: of this web service only.
        """
        states = [_STATES[name] for name in (FRESH, STALE, UNKNOWN, FAILED)]
        query = (
            sa.select(
                endpoints.c.service_id,
                sa.func.count(),
                *(sa.func.sum(sa.case((sa.and_(state, _RETRAINED), 1), else_=0)) for state in states),
            )
            .select_from(_WITH_MODELS.join(web_services, web_services.c.id == endpoints.c.service_id))
            .where(web_services.c.training.is_(False), _FOR_PEOPLE)
            .where(endpoints.c.service_id == service_id if service_id else sa.true())
            .group_by(endpoints.c.service_id)
        )
        with self._db.read() as connection:
            rows = connection.execute(query, {"now_seconds": _seconds(now)}).all()
        return {name: Counts(*map(int, numbers)) for name, *numbers in rows}

    def state(self, now: datetime) -> tuple[dict[str, Counts], list[EndpointLine]]:
        """Both of :meth:`counts` and :meth:`attention`; where there are many endpoints, as they were some seconds ago.

        :param now: the present time.
        """
        with self._lock:
            kept_at, kept = self._kept
            if kept is not None and monotonic() - kept_at < KEPT_SECONDS:
                return kept
            found = self.counts(now), self.attention(now)
            many = sum(counts.all for counts in found[0].values()) >= MANY
            self._kept = monotonic(), found if many else None
            return found

    def attention(self, now: datetime) -> list[EndpointLine]:
        """Endpoints whose last retrain failed, and the stalest ones: some of each.

        :param now: the present time.
        """
        query = _ENDPOINTS.join(web_services, web_services.c.id == endpoints.c.service_id).where(
            web_services.c.training.is_(False), _FOR_PEOPLE, _RETRAINED
        )
        failed = query.where(_FAILED).order_by(endpoints.c.name).limit(_ATTENTION)
        stale = query.where(_STATES[STALE], ~_FAILED).order_by(_WINDOW_END, endpoints.c.name).limit(_ATTENTION)
        with self._db.read() as connection:
            rows = [*connection.execute(failed).mappings()]
            rows += connection.execute(stale, {"now_seconds": _seconds(now)}).mappings()
        return [_endpoint_line(row) for row in rows]

    def endpoints(
        self, service_id: str, *, search: str, state: str, now: datetime, sort: str, down: bool, page: int
    ) -> tuple[list[EndpointLine], int]:
        """One page of the endpoints of a web service, and how many there are on all pages; not those of gates.

        :param service_id: the web service.
        :param search: part of a name or description; empty: all.
        :param state: :data:`FRESH`, :data:`STALE`, :data:`UNKNOWN`, :data:`FAILED`; anything else: all.
        :param now: the present time.
        :param sort: one of :data:`SORTS`.
        :param down: from the last to the first.
        :param page: the first is 1.
        """
        where = [endpoints.c.service_id == service_id, _FOR_PEOPLE]
        if search:
            columns = (endpoints.c.name, endpoints.c.description)
            where.append(sa.or_(*(column.icontains(search, autoescape=True) for column in columns)))
        if state in _STATES:
            where += [_STATES[state], _RETRAINED]
        orders: dict[str, Any] = {"freshness": _WINDOW_END, "placed": placements.c.placed_at}
        orders |= {"created": endpoints.c.created_at}
        column = orders.get(sort, endpoints.c.name)
        order = column.desc().nulls_last() if down else column.asc().nulls_first()
        # The models are joined only if their state counts: that is what takes time.
        counted = sa.select(sa.func.count()).select_from(_WITH_MODELS if state in _STATES else endpoints).where(*where)
        paged = _ENDPOINTS.where(*where).order_by(order, endpoints.c.name).limit(LINES).offset((page - 1) * LINES)
        seconds = {"now_seconds": _seconds(now)} if state in (FRESH, STALE) else {}
        with self._db.read() as connection:
            count = connection.execute(counted, seconds).scalar() or 0
            return [_endpoint_line(row) for row in connection.execute(paged, seconds).mappings()], count

    def history(self, endpoint_id: str, limit: int = CHARTED, before: int | None = None) -> list[ModelLine]:
        """The models that an endpoint had, newest first.

        :param endpoint_id: the endpoint.
        :param limit: the most that are wanted.
        :param before: number of an entry; those before it only.
        """
        query = (
            sa.select(
                placements.c.number,
                placements.c.resource,
                placements.c.digest,
                placements.c.relative_location,
                placements.c.base_location,
                placements.c.window_end.label("told_end"),
                placements.c.placed_at,
                placements.c.how,
                placements.c.live,
                placements.c.approval,
                _WINDOW_END.label("window_end"),
                _WRITTEN_BY.label("job_id"),
                *_ABOUT,
            )
            .outerjoin(model_files, model_files.c.digest == placements.c.digest)
            .where(placements.c.endpoint_id == endpoint_id, *([] if before is None else [placements.c.number < before]))
            .order_by(placements.c.id.desc())
            .limit(limit)
        )
        return self._models(query)

    def trained(self, job_id: str) -> ModelLine | None:
        """The model that a job has trained; ``None``: it has trained none."""
        return next(iter(self._models(_TRAINED.where(trained_models.c.job_id == job_id))), None)

    def unused(self, row: EndpointRow, experiment: str) -> list[ModelLine]:
        """Finished retrains for an endpoint that were never put in place anywhere, newest first.

        :param row: the endpoint, whose name is in the models' paths; a customer's who is kept apart has only what was
            trained for him by himself.
        :param experiment: of the training web service.
        """
        used = sa.exists().where(placements.c.digest == trained_models.c.digest)
        if row.customer is not None:
            used = used.where(placements.c.endpoint_id == row.id)
        query = (
            _TRAINED.where(trained_models.c.for_endpoint == row.name, web_services.c.experiment == experiment, ~used)
            .where(sa.true() if row.customer is None else endpoints.c.customer == row.customer)
            .order_by(jobs.c.end_time.desc())
            .limit(CHARTED)
        )
        return self._models(query)

    def _models(self, query: sa.Select[Any]) -> list[ModelLine]:
        with self._db.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [to_row(ModelLine, row, metrics=row["metrics"] or {}, live=bool(row["live"])) for row in rows]

    def used_by(self, digest: str) -> list[tuple[str, str, bool]]:
        """Endpoints that have or had a model: web service id, name, whether it is live there; at most ten.

        :param digest: SHA-256 of the model file.
        """
        query = (
            sa.select(endpoints.c.service_id, endpoints.c.name, sa.func.max(sa.case((placements.c.live, 1), else_=0)))
            .join(placements, placements.c.endpoint_id == endpoints.c.id)
            .where(placements.c.digest == digest)
            .group_by(endpoints.c.service_id, endpoints.c.name)
            .limit(10)
        )
        with self._db.read() as connection:
            return [(service, name, bool(live)) for service, name, live in connection.execute(query)]

    def scoring_endpoint(self, training_id: str, name: str) -> str | None:
        """Id of the scoring web service that a training one trains for, if it has an endpoint of this name."""
        trainer = web_services.alias()
        query = (
            sa.select(web_services.c.id)
            .join(trainer, trainer.c.experiment == web_services.c.experiment)
            .join(endpoints, endpoints.c.service_id == web_services.c.id)
            .where(trainer.c.id == training_id, web_services.c.training.is_(False), endpoints.c.name == name)
        )
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def scoring_service(self, training_id: str) -> str | None:
        """Id of the scoring web service that a training one trains for."""
        trainer = web_services.alias()
        query = (
            sa.select(web_services.c.id)
            .join(trainer, trainer.c.experiment == web_services.c.experiment)
            .where(trainer.c.id == training_id, web_services.c.training.is_(False))
        )
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def training_service(self, experiment: str) -> str | None:
        """Id of the web service that trains the models of an experiment."""
        query = sa.select(web_services.c.id).where(web_services.c.experiment == experiment, web_services.c.training)
        with self._db.read() as connection:
            return connection.execute(query).scalar()

    def names(self, service_id: str, limit: int) -> list[str]:
        """The first endpoints of a web service whose models can be replaced, by name.

        :param service_id: the web service.
        :param limit: the most that are wanted.
        """
        where = (endpoints.c.service_id == service_id, _FOR_PEOPLE, _RETRAINED, ~endpoints.c.prevent_update)
        query = sa.select(endpoints.c.name).where(*where).order_by(endpoints.c.name).limit(limit)
        with self._db.read() as connection:
            return list(connection.execute(query).scalars())

    def endpoint_count(self) -> int:
        """Endpoints of all web services, but for those of gates."""
        with self._db.read() as connection:
            return (
                connection.execute(sa.select(sa.func.count()).select_from(endpoints).where(_FOR_PEOPLE)).scalar() or 0
            )


#: Conditions of an endpoint with its model.
_STATES: dict[str, sa.ColumnElement[bool]] = {
    FRESH: _FRESH,
    STALE: ~_FRESH,
    UNKNOWN: _WINDOW_END.is_(None),
    FAILED: _FAILED,
}
_ENDPOINTS = sa.select(
    endpoints.c.id,
    endpoints.c.service_id,
    endpoints.c.name,
    endpoints.c.description,
    endpoints.c.created_at,
    endpoints.c.prevent_update,
    placements.c.relative_location,
    placements.c.placed_at,
    placements.c.how,
    _WINDOW_END.label("window_end"),
    model_files.c.created_at.label("trained_at"),
    _LIMIT.label("stale_after"),
    _FAILED.label("failed"),
).select_from(_WITH_MODELS)


def _endpoint_line(row: sa.RowMapping) -> EndpointLine:
    return to_row(EndpointLine, row, failed=bool(row["failed"]))


def _seconds(moment: datetime) -> float:
    """As the database counts them for times without a zone."""
    return moment.astimezone(UTC).timestamp()


_ABOUT = (
    model_files.c.length,
    model_files.c.rows,
    model_files.c.window_start,
    model_files.c.window_end.label("last_time"),
    model_files.c.created_at,
    model_files.c.metrics,
    model_files.c.content,
)
#: What jobs have trained, as models that are nowhere.
_TRAINED = (
    sa.select(
        sa.null().label("number"),
        trained_models.c.digest,
        trained_models.c.relative_location,
        sa.literal("").label("base_location"),
        sa.null().label("placed_at"),
        sa.null().label("how"),
        sa.false().label("live"),
        TRAINED_END.label("window_end"),
        trained_models.c.job_id,
        *_ABOUT,
    )
    .join(jobs, jobs.c.id == trained_models.c.job_id)
    .join(endpoints, endpoints.c.id == jobs.c.endpoint_id)
    .join(web_services, web_services.c.id == endpoints.c.service_id)
    .outerjoin(model_files, model_files.c.digest == trained_models.c.digest)
)
