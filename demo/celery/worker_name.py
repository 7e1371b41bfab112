"""What a task instance shows as its host: the worker's own name, because all workers are on one machine here."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    """The name of this worker; of the machine in other processes."""
    return os.environ.get("WORKER_NAME") or socket.gethostname()
