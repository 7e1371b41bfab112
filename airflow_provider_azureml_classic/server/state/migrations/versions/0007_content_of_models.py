"""What a model answers with, as a digest beside that of its file; not known of the models that are there already."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Change the schema, and the rows with it."""
    for table in ("model_files", "resources"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("content", sa.String(length=64), nullable=True))
