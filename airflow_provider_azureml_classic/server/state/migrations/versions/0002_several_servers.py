"""Several servers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the schema, and the rows with it."""
    op.create_table(
        "servers",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("beat", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "pins",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("server_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["servers.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("pins", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pins_digest"), ["digest"], unique=False)
        batch_op.create_index(batch_op.f("ix_pins_server_id"), ["server_id"], unique=False)

    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("place", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("server_id", sa.String(length=32), nullable=True))
    op.execute(
        "UPDATE jobs SET place = started.place FROM "
        "(SELECT id, row_number() OVER (ORDER BY created_at) AS place FROM jobs WHERE queued) AS started "
        "WHERE jobs.id = started.id"
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_jobs_place"), ["place"], unique=False)
        batch_op.create_index(batch_op.f("ix_jobs_server_id"), ["server_id"], unique=False)
        batch_op.drop_column("queued")
