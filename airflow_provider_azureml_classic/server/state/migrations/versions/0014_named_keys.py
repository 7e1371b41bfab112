"""Keys with a name, a kind and an end; quotas of customers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Change the schema."""
    with op.batch_alter_table("endpoint_keys", schema=None) as batch_op:
        batch_op.add_column(sa.Column("name", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("kind", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("created_at", sa.DateTime(), nullable=True))
        batch_op.add_column(sa.Column("expires_at", sa.DateTime(), nullable=True))
    op.create_table(
        "quotas",
        sa.Column("customer", sa.String(length=32), nullable=False),
        sa.Column("jobs_a_day", sa.BigInteger(), nullable=True),
        sa.Column("bytes_kept", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("customer"),
    )
