"""The models that an endpoint had are counted for each endpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Change the schema; models from before keep the number that was told, so that it still means the same one."""
    op.add_column("placements", sa.Column("number", sa.Integer(), server_default="0", nullable=False))
    op.execute("UPDATE placements SET number = id")
