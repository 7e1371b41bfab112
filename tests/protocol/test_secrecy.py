"""Signatures stay out of logs."""

from __future__ import annotations

import io
import logging

import pytest

from airflow_provider_azureml_classic.protocol.secrecy import hide_signatures, redact


@pytest.mark.parametrize("name", ["urllib3.connection", "urllib3.connectionpool"])
@pytest.mark.parametrize(
    ("arguments", "logged"),
    [
        (("GET", "/c/a.csv?sv=1&sig=U0VDUkVU%3D&sp=r", 200), "GET /c/a.csv?sv=1&sig=***&sp=r 200"),
        (("HEAD", "/?SIG=U0VDUkVU'", 5), "HEAD /?SIG=***' 5"),
        (("GET", "/c/a.csv", 404), "GET /c/a.csv 404"),
    ],
)
def test_signatures_are_hidden(
    name: str,
    arguments: tuple[object, ...],
    logged: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In what the HTTP library logs; all else is there as it was."""
    logger = logging.getLogger(name)
    monkeypatch.setattr(logger, "filters", [])
    with caplog.at_level(logging.DEBUG, logger=name):
        hide_signatures()
        logger.debug("%s %s %s", *arguments)
        logger.debug("%(one)s", {"one": 1})
        logger.debug("without arguments")
    assert caplog.messages == [logged, "1", "without arguments"]


@pytest.mark.parametrize("path", ["/a/to+k/en==/b", "/a/to%2Bk%2Fen%3D%3D/b", "/a/to%2Bk/en%3D%3D/b"])
def test_a_servers_own_secrets_are_hidden(path: str) -> None:
    """Also where a client has put them into an address, in each spelling; short ones are words, and stay."""
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    redact([handler], ["to+k/en==", "", "GET"])
    record = logging.LogRecord("x", logging.INFO, "x", 1, "GET %s %s", (path, 404), None)
    assert handler.format(record) == "INFO GET /a/***/b 404"
    redact([unformatted := logging.StreamHandler(io.StringIO())], ["to+k/en=="])
    assert unformatted.format(record) == "GET /a/***/b 404"
