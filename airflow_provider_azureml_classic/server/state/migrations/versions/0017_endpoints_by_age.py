"""Endpoints of a web service in the order of a list."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Change the schema."""
    op.create_index("endpoints_by_age", "endpoints", ["service_id", "created_at", "name"])
