"""Where the samples of a model are: by the job that wrote it, and by what it answers with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Change the schema, and the rows with it."""
    op.create_table(
        "model_samples",
        sa.Column("content", sa.String(length=64), nullable=False),
        sa.Column("relative_location", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("content"),
    )
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("samples", sa.Text(), nullable=True))
