"""The web server's own connections: what they take from uvicorn."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from airflow_provider_azureml_classic.server.web.connections import Connection

#: Methods of a class inside uvicorn that is not for others to build on: a version without one of them needs a new
#: upper bound in `setup.cfg`, or a change here.
OVERRIDDEN = {
    "connection_made",
    "data_received",
    "on_headers_complete",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
    "shutdown",
    "timeout_keep_alive_handler",
}


def test_what_is_overridden_is_there() -> None:
    """Each method that a limit hangs on is called by the uvicorn that is installed."""
    assert {
        name for name in vars(Connection) if not name.startswith("_") and name in vars(HttpToolsProtocol)
    } == OVERRIDDEN
