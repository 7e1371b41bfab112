"""Tables of the database, and the frozen rows that leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus

metadata = sa.MetaData()


def put(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> None:
    """Add a row, or put it in the place of the one with its primary key, in one step: rows that are deleted and added
    again are missing for others in between, and of two who do so at the same time one fails.

    :param connection: to the database.
    :param table: of the row.
    :param values: by column.
    """
    insert = sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)
    by_key = [column.name for column in table.primary_key]
    rest = {name: insert.excluded[name] for name in values if name not in by_key}
    connection.execute(insert.on_conflict_do_update(index_elements=by_key, set_=rest), dict(values))


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A time in UTC; SQLite has no time zones, so they are put back when a row is read."""

    impl = sa.DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:
        """To the database."""
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        """From the database."""
        return value.replace(tzinfo=UTC) if value else None


experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("declaration", sa.String(64), nullable=False),
    sa.Column("schema", sa.Text, nullable=False),
)
web_services = sa.Table(
    "web_services",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("experiment", sa.String(255), nullable=False),
    sa.Column("training", sa.Boolean, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    # Each endpoint's key reaches its own customer's folder only.
    sa.Column("isolated", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("experiment", "training"),
    sa.Index("web_services_by_age", "created_at", "name"),
)
endpoints = sa.Table(
    "endpoints",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("service_id", sa.ForeignKey("web_services.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(24), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("primary_key", sa.LargeBinary, nullable=False),
    sa.Column("secondary_key", sa.LargeBinary, nullable=False),
    sa.Column("throttle_level", sa.String(8), nullable=False),
    sa.Column("max_concurrent_calls", sa.Integer, nullable=False),
    sa.Column("trace_level", sa.String(8), nullable=False),
    sa.Column("prevent_update", sa.Boolean, nullable=False),
    sa.Column("sample_data_enabled", sa.Boolean, nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changed_at", UtcTime, nullable=False),
    # Calls that are kept for rehearsals; none: as its experiment declares.
    sa.Column("keep_calls", sa.Integer),
    # Seconds after which its model is stale; none: as its web service says.
    sa.Column("stale_after", sa.Integer),
    # Whose the endpoint is: the same at the training and the scoring endpoint of a name, and at no other ever after.
    sa.Column("customer", sa.String(32), index=True),
    sa.UniqueConstraint("service_id", "name"),
    sa.Index("endpoints_by_age", "service_id", "created_at", "name"),
)
resources = sa.Table(
    "resources",
    metadata,
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("name", sa.String(255), primary_key=True),
    # Empty base: the own store, whose address changes with the port.
    sa.Column("base_location", sa.Text, nullable=False),
    sa.Column("relative_location", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    # What the model answers with; not known of models of earlier versions.
    sa.Column("content", sa.String(64)),
    # As the submission of its training said; none where it said nothing.
    sa.Column("window_end", UtcTime),
)
# Calls that endpoints answered, some together, encrypted.
kept_calls = sa.Table(
    "kept_calls",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    # Of the oldest of them.
    sa.Column("begun_at", UtcTime, nullable=False),
    sa.Column("expires_at", UtcTime, nullable=False, index=True),
    sa.Column("calls", sa.Integer, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
)
# What the kept calls said of models that were to be put in place: figures, no rows.
rehearsals = sa.Table(
    "rehearsals",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    # SHA-256 of the file of the new model.
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("rehearsed_at", UtcTime, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
)
keys = sa.Table(
    "endpoint_keys",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    # Of keys besides the two that every endpoint has.
    sa.Column("name", sa.String(64)),
    sa.Column("kind", sa.String(16)),
    sa.Column("created_at", UtcTime),
    sa.Column("expires_at", UtcTime),
)
#: How much customers may have who are kept apart.
quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("customer", sa.String(32), primary_key=True),
    sa.Column("jobs_a_day", sa.BigInteger),
    sa.Column("bytes_kept", sa.BigInteger),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", UtcTime, nullable=False, index=True),
    sa.Column("who", sa.String(255), nullable=False),
    sa.Column("what", sa.String(64), nullable=False),
    sa.Column("target", sa.String(255), nullable=False),
    sa.Column("address", sa.String(64), nullable=False),
    # None before the operation has ended.
    sa.Column("status", sa.Integer),
    # A number is never given again.
    sqlite_autoincrement=True,
)
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("status", sa.String(16), nullable=False, index=True),
    # In the order of the starts; none before its client has started the job.
    sa.Column("place", sa.Integer, index=True),
    # Who runs it; also while it runs no more, if that server has died.
    sa.Column("server_id", sa.String(32), index=True),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("results", sa.LargeBinary),
    # Path of the samples of the model that it wrote, in the store of the service's outputs.
    sa.Column("samples", sa.Text),
    # What its data were found to be beside those of the live model.
    sa.Column("data_check", sa.JSON),
    sa.Column("details", sa.Text),
    # The scoring endpoint that its model is for, as its submission or the model's path says.
    sa.Column("for_endpoint", sa.String(24)),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("start_time", UtcTime),
    sa.Column("end_time", UtcTime),
    # What it wrote is to be removed if nobody needs it a day later; it was; likewise its log.
    sa.Column("removal_noted_at", UtcTime),
    sa.Column("outputs_removed_at", UtcTime),
    sa.Column("log_removed_at", UtcTime),
    sa.Index("jobs_by_target", "for_endpoint", "status"),
    sa.Index("jobs_by_end", "end_time", "id"),
)
# Blobs that were removed because of their age: container and name.
removals = sa.Table(
    "removals",
    metadata,
    sa.Column("path", sa.String(1100), primary_key=True),
    sa.Column("removed_at", UtcTime, nullable=False, index=True),
    # The option that says how long they are kept, as it was.
    sa.Column("rule", sa.String(64), nullable=False),
)
job_log = sa.Table(
    "job_log",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
servers = sa.Table(
    "servers",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    # Changes as long as the server lives.
    sa.Column("beat", sa.Integer, nullable=False),
)
#: One row: what tells this database from all others, wherever it is.
identity = sa.Table("identity", metadata, sa.Column("id", sa.String(32), primary_key=True))
#: Sessions of browsers that were signed out before they would have expired.
ended_sessions = sa.Table(
    "ended_sessions",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("until", UtcTime, nullable=False, index=True),
)
#: Model files that are being put in place, or read, and that may be in no endpoint.
pins = sa.Table(
    "pins",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("server_id", sa.ForeignKey("servers.id", ondelete="CASCADE"), nullable=False, index=True),
)
# What a model file says of itself, once for each file.
model_files = sa.Table(
    "model_files",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("window_start", UtcTime),
    sa.Column("window_end", UtcTime),
    sa.Column("created_at", UtcTime),
    sa.Column("metrics", sa.JSON, nullable=False),
    sa.Column("content", sa.String(64)),
)
# Each model that was put in place on an endpoint; the one that is there now is ``live``.
placements = sa.Table(
    "placements",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False),
    # What users see: counted for each endpoint, since the id tells how much all others update.
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("resource", sa.String(255), nullable=False),
    sa.Column("base_location", sa.Text, nullable=False),
    sa.Column("relative_location", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("window_end", UtcTime),
    sa.Column("placed_at", UtcTime, nullable=False),
    sa.Column("how", sa.String(16), nullable=False),
    sa.Column("live", sa.Boolean, nullable=False),
    # Who has agreed, as the update said.
    sa.Column("approval", sa.JSON(none_as_null=True)),
    sa.Index("placements_by_endpoint", "endpoint_id", "live"),
)
# What finished training jobs wrote; ``for_endpoint`` is the folder of the model's path, by convention an endpoint.
trained_models = sa.Table(
    "trained_models",
    metadata,
    sa.Column("job_id", sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("for_endpoint", sa.String(24), index=True),
    sa.Column("relative_location", sa.Text, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False, index=True),
    sa.Column("window_end", UtcTime),
)
# Where the samples of a model are, by what the model answers with: whatever file, path or job it came from.
model_samples = sa.Table(
    "model_samples",
    metadata,
    sa.Column("content", sa.String(64), primary_key=True),
    sa.Column("relative_location", sa.Text, nullable=False),
)
# After how many hours the models of a web service count as stale, but for endpoints that have a limit of their own.
freshness_limits = sa.Table(
    "freshness_limits",
    metadata,
    sa.Column("service_id", sa.ForeignKey("web_services.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("hours", sa.Integer, nullable=False),
)
# What an endpoint's calls asked of one of its models on one day (of UTC, as an ordinal), of all servers together.
asked = sa.Table(
    "asked",
    metadata,
    sa.Column("endpoint_id", sa.ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("calls", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    # Of the rows, those that are in the counts.
    sa.Column("counted", sa.BigInteger, nullable=False),
    # In the bins of the model.
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Index("asked_by_day", "day"),
)
# The bins of a model, and what of each its training rows were.
model_bins = sa.Table(
    "model_bins",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("features", sa.JSON, nullable=False),
)


@dataclass(frozen=True)
class ExperimentRow:
    """An experiment that has been set up: its declaration's digest and its schema."""

    name: str
    declaration: str
    schema: str


@dataclass(frozen=True)
class ServiceRow:
    """A web service."""

    id: str
    name: str
    experiment: str
    training: bool
    created_at: datetime
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class ResourceRow:
    """A model in place, and where it came from.

    :param last_time: last time in its training data, as its file says, if they are dated; only of rows that are read.
    :param trained_at: when it was trained; likewise.
    """

    endpoint_id: str
    name: str
    base_location: str
    relative_location: str
    digest: str
    content: str | None = None
    window_end: datetime | None = None
    last_time: datetime | None = None
    trained_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key, as far as it is kept: not the key itself.

    :param hash: what it is found by.
    :param name: of a named key; likewise its kind, see :class:`~.protocol.keys.KeyKind`, and its times.
    """

    hash: str = field(repr=False)
    endpoint_id: str
    name: str | None = None
    kind: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint, keys in clear, with its models.

    :param customer: whose it is, where customers are kept apart; else ``None``.
    :param stale_after: seconds after which its model is stale; ``None``: as its web service says, see
        ``service_stale_after``, which is only read.
    :param other_keys: further keys that open it: named ones, and those of the customer's other endpoint.
    """

    id: str
    service_id: str
    name: str
    description: str | None
    created_at: datetime
    throttle_level: str
    max_concurrent_calls: int
    trace_level: str
    prevent_update: bool
    sample_data_enabled: bool
    revision: int
    changed_at: datetime
    keep_calls: int | None
    stale_after: int | None
    service_stale_after: int | None
    customer: str | None
    primary_key: str = field(repr=False)
    secondary_key: str = field(repr=False)
    resources: tuple[ResourceRow, ...] = ()
    other_keys: tuple[KeyRow, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class JobRow:
    """A batch job; results as decoded JSON: reference by output name."""

    id: str
    endpoint_id: str
    status: JobStatus
    place: int | None
    request: JobRequest = field(repr=False)
    results: dict[str, Any] | None = field(repr=False)
    details: str | None
    created_at: datetime
    start_time: datetime | None
    end_time: datetime | None
    server_id: str | None = None
    samples: str | None = None
    data_check: dict[str, Any] | None = None
    for_endpoint: str | None = None


@dataclass(frozen=True)
class ModelRow:
    """What a model file says of itself.

    :param digest: SHA-256 of the file.
    :param length: of the file, in bytes.
    :param rows: training rows.
    :param window_start: first time of the training data, if it is dated; likewise the last.
    :param created_at: when it was trained.
    :param metrics: finite numbers only.
    :param content: digest of what the model answers with, see :func:`~.ilearner.content_digest`.
    """

    digest: str
    length: int
    rows: int
    window_start: datetime | None
    window_end: datetime | None
    created_at: datetime | None
    metrics: dict[str, float]
    content: str | None = None


@dataclass(frozen=True)
class PlacementRow:
    """A model that was put in place on an endpoint.

    :param window_end: as the model's path says.
    :param how: one of :class:`~.history.How`.
    :param live: it is there now.
    :param approval: who has agreed, see :class:`~.protocol.approval.Approval`.
    """

    id: int
    endpoint_id: str
    resource: str
    base_location: str
    relative_location: str
    digest: str
    window_end: datetime | None
    placed_at: datetime
    how: str
    live: bool
    approval: dict[str, Any] | None = None


@dataclass(frozen=True)
class TrainedRow:
    """The model that a finished training job wrote.

    :param for_endpoint: the endpoint that the model's path names, if it names one.
    :param window_end: as the model's path says.
    """

    job_id: str
    for_endpoint: str | None
    relative_location: str
    digest: str
    window_end: datetime | None


@dataclass(frozen=True)
class SamplesRow:
    """Golden and check rows of a model.

    :param content: digest of what it answers with.
    :param relative_location: where they are, in the store of the service's outputs.
    """

    content: str
    relative_location: str


#: What a finished training leaves: its model, what the file says of itself, and the model's samples.
Trained = tuple[TrainedRow, ModelRow, SamplesRow]
