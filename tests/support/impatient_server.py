"""The server with limits that a test can wait for; run with ``python -m``."""

from __future__ import annotations

import sys

from airflow_provider_azureml_classic.server.__main__ import main
from airflow_provider_azureml_classic.server.web import bodies as patience
from airflow_provider_azureml_classic.server.web import connections

if __name__ == "__main__":
    connections.HEAD_SECONDS = connections.UNREAD_SECONDS = patience.GAP_SECONDS = 2.0
    connections.MAX_CONNECTIONS = 60
    sys.exit(main())
