"""Alembic's entry point: it works on the connection that :mod:`..schema` hands it."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from airflow_provider_azureml_classic.server.state.tables import UtcTime, metadata


def render_item(kind: str, item: Any, _: object) -> str | Literal[False]:
    """How a new revision spells a type of ours: as what is in the database, which no later change of code changes."""
    return "sa.DateTime()" if kind == "type" and isinstance(item, UtcTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite cannot alter a table: Alembic makes a new one and copies the rows.
    render_as_batch=True,
    transactional_ddl=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
