"""History of models."""

from __future__ import annotations

import re
from datetime import datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the schema, and the rows with it."""
    op.create_table(
        "model_files",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("window_start", sa.DateTime(), nullable=True),
        sa.Column("window_end", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )
    op.create_table(
        "freshness_limits",
        sa.Column("service_id", sa.String(length=32), nullable=False),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["service_id"], ["web_services.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("service_id"),
    )
    op.create_table(
        "placements",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("endpoint_id", sa.String(length=32), nullable=False),
        sa.Column("resource", sa.String(length=255), nullable=False),
        sa.Column("base_location", sa.Text(), nullable=False),
        sa.Column("relative_location", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("window_end", sa.DateTime(), nullable=True),
        sa.Column("placed_at", sa.DateTime(), nullable=False),
        sa.Column("how", sa.String(length=16), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoints.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("placements", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_placements_digest"), ["digest"], unique=False)
        batch_op.create_index("placements_by_endpoint", ["endpoint_id", "live"], unique=False)

    op.create_table(
        "trained_models",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("for_endpoint", sa.String(length=24), nullable=True),
        sa.Column("relative_location", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("window_end", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id"),
    )
    with op.batch_alter_table("trained_models", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_trained_models_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_trained_models_for_endpoint"), ["for_endpoint"], unique=False)
    _begin_histories()


def _begin_histories() -> None:
    """The history of each endpoint begins with the model that is there; how long it has been is not known."""
    copied = ("endpoint_id", "resource", "base_location", "relative_location", "digest")
    table = sa.table(
        "placements",
        *(sa.column(name, sa.String()) for name in (*copied, "how")),
        *(sa.column(name, sa.DateTime()) for name in ("window_end", "placed_at")),
        sa.column("live", sa.Boolean()),
    )
    found = sa.text(
        "SELECT endpoint_id, resources.name AS resource, base_location, relative_location, digest, changed_at "
        "FROM resources JOIN endpoints ON endpoints.id = resources.endpoint_id"
    ).columns(changed_at=sa.DateTime())
    rows = [
        {**{name: row[name] for name in copied}, "placed_at": row["changed_at"], "how": "earlier", "live": True}
        | {"window_end": _window_end(row["relative_location"])}
        for row in op.get_bind().execute(found).mappings()
    ]
    op.bulk_insert(table, rows)


def _window_end(path: str) -> datetime | None:
    stamps = re.findall(r"(?<!\d)(\d{8}T\d{6}Z)(?!\d)", path)
    try:
        return datetime.strptime(stamps[-1], "%Y%m%dT%H%M%SZ") if stamps else None
    except ValueError:
        return None
