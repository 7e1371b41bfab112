"""Which models an endpoint had: written in the transaction that puts one in place, and read by the portal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import BlobReference, window_end_of
from airflow_provider_azureml_classic.protocol.values import ENDPOINT_NAME
from airflow_provider_azureml_classic.server.state.database import columns
from airflow_provider_azureml_classic.server.state.tables import (
    ModelRow,
    ResourceRow,
    SamplesRow,
    TrainedRow,
    model_files,
    model_samples,
    placements,
    put,
    trained_models,
)

#: Rows kept for each endpoint; older ones are forgotten.
KEPT_ROWS = 200
#: Models of each endpoint whose files are kept, so that they can be put back though their source is gone.
KEPT_MODELS = 10

#: By name of the database's kind.
_ADD_MODEL = {
    "sqlite": sqlite.insert(model_files).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(model_files).on_conflict_do_nothing(),
}
_ADD_TRAINED = sa.insert(trained_models)
#: The last one is never forgotten, so no number comes twice.
_NEXT_NUMBER = (
    sa.select(sa.func.coalesce(sa.func.max(placements.c.number), 0) + 1)
    .where(placements.c.endpoint_id == sa.bindparam("of"))
    .scalar_subquery()
)
_ADD_PLACEMENT = sa.insert(placements).values(number=_NEXT_NUMBER)
_OF_RESOURCE = (placements.c.endpoint_id == sa.bindparam("of"), placements.c.resource == sa.bindparam("name"))
_NOT_LIVE = sa.update(placements).where(*_OF_RESOURCE, placements.c.live).values(live=False)
_OLDEST = (
    sa.select(placements.c.id)
    .where(*_OF_RESOURCE)
    .order_by(placements.c.id.desc())
    .offset(sa.bindparam("kept"))
    .limit(1)
)
_FORGET = sa.delete(placements).where(*_OF_RESOURCE, placements.c.id <= _OLDEST.scalar_subquery())


class How(str, Enum):
    """What put a model in place."""

    ADDED = "added"
    PATCHED = "patch"
    REFRESHED = "refresh"
    ROLLED_BACK = "rollback"
    #: Before there was a history; nobody knows when.
    EARLIER = "earlier"


def target_of(reference: BlobReference | None, purpose: Purpose | None) -> str | None:
    """The endpoint that a model is for, as its submission said, else as its path does; ``None``: nobody has said so.

    :param reference: where it is written, if that is known.
    :param purpose: what the submission said, if anything.
    """
    if purpose and purpose.endpoint and ENDPOINT_NAME.fullmatch(purpose.endpoint):
        return purpose.endpoint
    folders = reference.relative_location.split("/")[:-1] if reference else []
    return folders[-1] if len(folders) > 1 and ENDPOINT_NAME.fullmatch(folders[-1]) else None


def trained_row(job_id: str, reference: BlobReference, digest: str, purpose: Purpose | None = None) -> TrainedRow:
    """The model of a finished job: what it is for, and of which window, as its submission said, else as its path does.

    :param job_id: the job.
    :param reference: where it was written.
    :param digest: SHA-256 of the file.
    :param purpose: what the submission said, if anything.
    """
    name = target_of(reference, purpose)
    end = (purpose.end.replace(microsecond=0) if purpose and purpose.end else None) or window_end_of(reference)
    return TrainedRow(job_id, name, reference.address_path, digest, end)


def add_models(connection: sa.Connection, rows: Iterable[ModelRow]) -> None:
    """Remember what model files say of themselves; what is known already stays.

    :param connection: in a transaction.
    :param rows: of the files.
    """
    add = _ADD_MODEL[connection.dialect.name]
    for row in rows:
        connection.execute(add, columns(row))


def add_trained(connection: sa.Connection, row: TrainedRow) -> None:
    """Remember the model that a job wrote.

    :param connection: in the transaction that ends the job.
    :param row: of the model.
    """
    connection.execute(_ADD_TRAINED, columns(row))


def add_samples(connection: sa.Connection, row: SamplesRow) -> None:
    """Remember where a model's samples are, instead of those of an equal one: they are of the same rows.

    :param connection: in the transaction that ends its training.
    :param row: of the samples.
    """
    put(connection, model_samples, columns(row))


def add_placements(
    connection: sa.Connection,
    models: Sequence[ResourceRow],
    how: How,
    now: datetime,
    approval: Approval | None = None,
) -> None:
    """Remember that models were put in place; they are the live ones of their resources from now on.

    :param connection: in the transaction that puts them in place.
    :param models: of one endpoint.
    :param how: what put them in place.
    :param now: the present time.
    :param approval: who has agreed, as was told.
    """
    for model in models:
        of = {"of": model.endpoint_id, "name": model.name}
        connection.execute(_NOT_LIVE, of)
        values = {
            "endpoint_id": model.endpoint_id,
            "resource": model.name,
            "base_location": model.base_location,
            "relative_location": model.relative_location,
            "digest": model.digest,
            "window_end": model.window_end
            or window_end_of(BlobReference.at(model.base_location, model.relative_location)),
            "placed_at": now,
            "how": how.value,
            "live": True,
            "approval": approval.to_json() if approval else None,
        }
        connection.execute(_ADD_PLACEMENT, {**values, "of": model.endpoint_id})
        connection.execute(_FORGET, {**of, "kept": KEPT_ROWS})


def kept_digests(connection: sa.Connection) -> set[str]:
    """Digests of the models that can be put back: the last :data:`KEPT_MODELS` of each endpoint.

    :param connection: to read from.
    """
    last = sa.func.max(placements.c.id)
    ranked = (
        sa.select(
            placements.c.digest,
            sa.func.row_number().over(partition_by=placements.c.endpoint_id, order_by=last.desc()).label("rank"),
        )
        .group_by(placements.c.endpoint_id, placements.c.digest)
        .subquery()
    )
    return set(connection.execute(sa.select(ranked.c.digest).distinct().where(ranked.c.rank <= KEPT_MODELS)).scalars())
