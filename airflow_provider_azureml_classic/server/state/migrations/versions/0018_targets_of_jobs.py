"""The endpoint that a job's model is for, of jobs that have written none, too; calls by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Change the schema; what earlier failed jobs were for is not known."""
    op.add_column("jobs", sa.Column("for_endpoint", sa.String(length=24), nullable=True))
    op.execute(
        "UPDATE jobs SET for_endpoint = (SELECT trained_models.for_endpoint FROM trained_models"
        " WHERE trained_models.job_id = jobs.id)"
    )
    op.create_index("jobs_by_target", "jobs", ["for_endpoint", "status"])
    op.create_index("asked_by_day", "asked", ["day"])
