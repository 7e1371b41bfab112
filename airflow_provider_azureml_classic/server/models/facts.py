"""What a model file says of itself, as the database keeps it.

Rule: it comes from whoever trained the model, so only finite numbers and times are kept.
"""

from __future__ import annotations

from datetime import datetime

from airflow_provider_azureml_classic.protocol.messages import finite
from airflow_provider_azureml_classic.protocol.moments import read_time
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
    numbers = [(str(name)[:64], finite(value)) for name, value in dict(manifest.metrics).items()]
    return ModelRow(
        digest=digest,
        length=length,
        rows=manifest.rows if type(manifest.rows) is int and 0 <= manifest.rows < 1 << 53 else 0,
        window_start=_time(start),
        window_end=_time(end),
        created_at=_time(manifest.created),
        metrics={name: number for name, number in numbers[:_METRICS] if number is not None},
        content=content,
    )


def _time(text: object) -> datetime | None:
    parsed = parse_time(text) if isinstance(text, str) else None
    return read_time(parsed[1]) if parsed else None
