"""Customers apart: which web services keep them so, and whose each endpoint is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Change the schema."""
    with op.batch_alter_table("web_services", schema=None) as batch_op:
        batch_op.add_column(sa.Column("isolated", sa.Boolean(), server_default=sa.false(), nullable=False))
    with op.batch_alter_table("endpoints", schema=None) as batch_op:
        batch_op.add_column(sa.Column("customer", sa.String(length=32), nullable=True))
        batch_op.create_index(batch_op.f("ix_endpoints_customer"), ["customer"], unique=False)
