"""Training windows in the paths of models: the end of a window stands in the name of the model that it gave."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from airflow_provider_azureml_classic.protocol.references import BlobReference

#: How a moment is written in a model's path: ISO 8601, basic, UTC.
STAMP = "%Y%m%dT%H%M%SZ"
_IN_PATH = re.compile(r"(?<!\d)(\d{8}T\d{6}Z)(?!\d)")


def window_end_of(location: BlobReference | None) -> datetime | None:
    """End of the training window that a model's path says, ``None`` if it says nothing.

    :param location: where the model is.
    """
    found = _IN_PATH.findall(location.relative_location) if location else []
    try:
        return datetime.strptime(found[-1], STAMP).replace(tzinfo=UTC) if found else None
    except ValueError:
        return None
