"""The training window of a model in place, as the submission of its training said it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Change the schema, and the rows with it."""
    with op.batch_alter_table("resources", schema=None) as batch_op:
        batch_op.add_column(sa.Column("window_end", sa.DateTime(), nullable=True))
