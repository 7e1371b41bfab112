"""Web services in the order of a list, ended sessions by when they would have expired."""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Change the schema."""
    op.create_index("web_services_by_age", "web_services", ["created_at", "name"])
    op.create_index("ix_ended_sessions_until", "ended_sessions", ["until"])
