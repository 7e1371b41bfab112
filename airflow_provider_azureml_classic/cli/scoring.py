"""``azureml-classic score``: rows in, scored rows out."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.cli.endpoints import found
from airflow_provider_azureml_classic.cli.session import DONE, Session, pairs
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.messages import read_json
from airflow_provider_azureml_classic.protocol.references import ARFF_EXTENSION, PARQUET_EXTENSION
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.files import file_rows

#: A job's answer is a file, not rows: where files cannot be read, it could not be read either.
_BY_JOB = "Or let the service read the file: upload it, then score it in a job (jobs submit ... --input PATH --wait)."


def score(session: Session) -> int:
    """Score rows through the request/response service, some hundred in a call."""
    said = session.arguments
    rows = list(map(_row, said.row))
    if not rows and not said.file:
        raise ValueError("No rows were given; use --row '{\"column\": value}' or --file rows.csv (- reads the input).")
    endpoint, parameters = found(session), dict(pairs(said.parameter, "--parameter", None))
    if said.file:
        rows += _rows(session, endpoint, said.file)
    scored: list[dict[str, Any]] = []
    with session.out.progress() as progress:
        for start in progress.track(range(0, len(rows), said.batch_size), description="Scoring"):
            batch = rows[start : start + said.batch_size]
            scored += session.client.score(endpoint, batch, global_parameters=parameters).rows
    session.out.rows(scored, list(scored[0]) if scored else [])
    return DONE


def _row(text: str) -> Mapping[str, Any]:
    try:
        row = read_json(text)
    except ValueError as error:
        raise ValueError(f"--row {text!r:.80} is not JSON: {error}") from None
    if not isinstance(row, Mapping):
        raise ValueError(f"--row {text!r:.80} must be a JSON object, one member a column.")
    return row


def _rows(session: Session, endpoint: Endpoint, path: Path) -> Sequence[Mapping[str, Any]]:
    """The rows of a file: JSON if its first character says so, else what its extension says.

    Standard input has no extension: what begins as ARFF or Parquet does is read as that.
    """
    piped = str(path) == "-"
    name = "standard input" if piped else str(path)
    try:
        data = sys.stdin.buffer.read() if piped else path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from None
    start = data.removeprefix(codecs.BOM_UTF8).lstrip()[:4]
    if start[:1] in (b"[", b"{"):
        return _json_rows(data, name)
    starts = {b"@": ARFF_EXTENSION, b"%": ARFF_EXTENSION, b"PAR1": PARQUET_EXTENSION}
    extension = next((one for sign, one in starts.items() if piped and start.startswith(sign)), "")
    client = session.client
    try:
        return client.perform(file_rows(client, endpoint, data, name + extension, otherwise=_BY_JOB)).rows
    except RequestRejected as error:
        raise ValueError(error.message) from None


def _json_rows(text: bytes, name: str) -> Sequence[Mapping[str, Any]]:
    try:
        data = read_json(text.decode("utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}") from None
    rows = data if isinstance(data, list) else [data]
    if not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{name} must hold an object, or a list of objects, one a row.")
    return rows
