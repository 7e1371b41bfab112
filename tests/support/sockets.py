"""Scoring calls over bare sockets."""

from __future__ import annotations

import json
import re
import socket
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_azureml_classic.protocol.values import Endpoint

ROW = {"season": 1, "yr": 0, "mnth": 1, "hr": 0, "holiday": 0, "weekday": 6, "workingday": 0, "weathersit": 1}
ROW |= {"temp": 0.24, "atemp": 0.2879, "hum": 0.81, "windspeed": 0.0}
BODY = json.dumps({"Inputs": {"input1": [ROW]}, "GlobalParameters": {}}).encode()


def head(endpoint: Endpoint, *lines: str, target: str = "") -> bytes:
    """Head of a scoring call with further header lines."""
    path = urlsplit(endpoint.api_location).path
    first = f"POST {target or f'{path}/execute?api-version=2.0'} HTTP/1.1"
    common = ["Host: x", f"Authorization: Bearer {endpoint.primary_key}"]
    return ("\r\n".join([first, *common, *lines]) + "\r\n\r\n").encode("latin-1")


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Status, headers and decoded body of the next answer; an answer 100 is passed over."""
    file = connection.makefile("rb")
    status = 100
    while status == 100:
        status = int(file.readline().split()[1])
        headers = {}
        while (line := file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
    return status, headers, json.loads(file.read(int(headers.get("content-length", 0))) or b"null")


def assert_error(reply: tuple[int, dict[str, str], Any], status: int, detail: str) -> None:
    """An error in the protocol's shape."""
    found, headers, body = reply
    assert (found, body["error"]["details"][0]["code"]) == (status, detail)
    assert re.fullmatch(r"[0-9a-f]{32}", headers["x-ms-request-id"])
