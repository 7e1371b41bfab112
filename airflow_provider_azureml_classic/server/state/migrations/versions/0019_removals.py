"""What was removed because of its age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Change the schema."""
    for name in ("removal_noted_at", "outputs_removed_at", "log_removed_at"):
        op.add_column("jobs", sa.Column(name, sa.DateTime(), nullable=True))
    op.create_index("jobs_by_end", "jobs", ["end_time", "id"])
    op.create_table(
        "removals",
        sa.Column("path", sa.String(length=1100), nullable=False),
        sa.Column("removed_at", sa.DateTime(), nullable=False),
        sa.Column("rule", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("path"),
    )
    with op.batch_alter_table("removals", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_removals_removed_at"), ["removed_at"], unique=False)
