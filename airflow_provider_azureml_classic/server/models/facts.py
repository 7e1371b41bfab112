"""What a model file says of itself, as the database keeps it.

Rule: it comes from whoever trained the model, so only finite numbers and times are kept.
"""

from __future__ import annotations

import math
from datetime import datetime

from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest
from airflow_provider_azureml_classic.server.state.tables import ModelRow
from airflow_provider_azureml_classic.tables.dates import parse_time

#: Metrics kept of a model.
_METRICS = 32


def model_row(manifest: Manifest, digest: str, length: int, content: str) -> ModelRow:
    """What a model file says of itself, made safe.

    :param manifest: its manifest.
    :param digest: SHA-256 of the file.
    :param length: of the file, in bytes.
    :param content: digest of what the model answers with.
    """
    start, end = manifest.window or (None, None)
    numbers = [(str(name)[:64], value) for name, value in dict(manifest.metrics).items()]
    return ModelRow(
        digest=digest,
        length=length,
        rows=manifest.rows if isinstance(manifest.rows, int) else 0,
        window_start=_time(start),
        window_end=_time(end),
        created_at=_time(manifest.created),
        metrics={name: float(value) for name, value in numbers[:_METRICS] if value is not None and _is_number(value)},
        content=content,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _time(text: object) -> datetime | None:
    parsed = parse_time(text) if isinstance(text, str) else None
    return to_utc(parsed[0]) if parsed else None
