"""After how long the model of an endpoint is stale."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Change the schema."""
    op.add_column("endpoints", sa.Column("stale_after", sa.Integer(), nullable=True))
