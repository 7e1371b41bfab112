"""What a DAG may name to decide when it runs, by when it must have run, and when it runs again: from Airflow 3.3 on.

:raises ImportError: an older Airflow, whose own error would name a module that the reader never asked for.
"""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

if find_spec("airflow.sdk.definitions.retry_policy") is None:
    raise ImportError(
        f"{__name__} (partitions, deadlines, retry policies) needs Airflow 3.3 or newer; "
        f"this is Airflow {version('apache-airflow-core')}. Everything else runs on 3.2: see docs/install.md."
    )
