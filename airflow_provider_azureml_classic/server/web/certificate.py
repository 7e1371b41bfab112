"""The certificate with which the server answers over TLS, read again when its files change."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import cause

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its chain, and its key.

    :param chain: PEM file, the server's own certificate first.
    :param key: PEM file, without a password.
    """

    chain: Path
    key: Path

    def check(self) -> None:
        """Refuse what could not be served.

        :raises ValueError: a file cannot be read, or they do not belong together; the message says what to do.
        """
        try:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or cause(error)
            raise ValueError(
                f"--tls-cert {self.chain} and --tls-key {self.key} cannot be used: {reason}. "
                "Give a certificate with its chain and its key without a password, both as PEM files."
            ) from None

    def state(self) -> tuple[tuple[int, int, int], ...]:
        """What changes when one of the files is replaced or written to.

        :raises OSError: one cannot be looked at.
        """
        facts = [path.stat() for path in (self.chain, self.key)]
        return tuple((fact.st_ino, fact.st_size, fact.st_mtime_ns) for fact in facts)


class Renewal:
    """Gives new connections a renewed certificate; those that are open go on with the one before.

    :param certificate: whose files are looked at.
    :param context: of the web server.
    """

    def __init__(self, certificate: Certificate, context: ssl.SSLContext) -> None:
        self._certificate = certificate
        self._context = context
        self._seen = certificate.state()

    def poll(self) -> None:
        """Look at the files; one that cannot be used leaves everything as it is, and the log says so."""
        try:
            state = self._certificate.state()
            if state == self._seen:
                return
            self._seen = state
            # First where nothing is at stake: a chain without its key would be half loaded.
            self._certificate.check()
            _load(self._context, self._certificate)
            log.info("the certificate %s was read again", self._certificate.chain)
        except (OSError, ValueError) as error:
            log.error("the certificate stays as it is: %s", error)


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    # A key with a password would be asked for at a terminal that nobody sees.
    context.load_cert_chain(certificate.chain, certificate.key, password=lambda: b"")
