"""Keeps secrets out of logs.

SAS signatures out of those of the HTTP library, which writes whole URLs there: of an answer whose head it cannot read
as a warning, of each request where debugging is on. A server's own secrets out of its log, where a client has put them
into an address.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from urllib.parse import quote

_LOGGERS = ("urllib3.connection", "urllib3.connectionpool")
#: Letters of a secret that is looked for.
_SHORTEST = 8
_SIGNATURE = re.compile(r"(sig=)[^&\s'\"]+", re.IGNORECASE)


def _hide(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_SIGNATURE.sub(r"\1***", arg) if isinstance(arg, str) else arg for arg in record.args)
    return True


def hide_signatures() -> None:
    """Take signatures out of what the HTTP library logs from now on."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_hide)


class Redacting(logging.Formatter):
    """Writes what another formatter does, with ``***`` for secrets, however they are spelled there.

    :param formatter: the other one.
    :param secrets: which; shorter ones than a password may be are words of other lines.
    """

    def __init__(self, formatter: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._formatter = formatter
        spelled = {
            form
            for secret in secrets
            if len(secret) >= _SHORTEST
            for form in (secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1])
        }
        self._secrets = sorted(spelled, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The line.

        :param record: what is logged.
        """
        text = self._formatter.format(record)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def redact(handlers: Iterable[logging.Handler], secrets: Iterable[str]) -> None:
    """Let handlers write no secret from now on.

    :param handlers: of logs.
    :param secrets: which.
    """
    secrets = tuple(secrets)
    for handler in handlers:
        handler.setFormatter(Redacting(handler.formatter or logging.Formatter(), secrets))
