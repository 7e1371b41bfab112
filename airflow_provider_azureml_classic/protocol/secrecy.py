"""Keeps SAS signatures out of the logs of the HTTP library, which writes whole URLs there: of an answer whose head it
cannot read as a warning, of each request where debugging is on."""

from __future__ import annotations

import logging
import re

_LOGGERS = ("urllib3.connection", "urllib3.connectionpool")
_SIGNATURE = re.compile(r"(sig=)[^&\s'\"]+", re.IGNORECASE)


def _hide(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_SIGNATURE.sub(r"\1***", arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


def hide_signatures() -> None:
    """Take signatures out of what the HTTP library logs from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide)
