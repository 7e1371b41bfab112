"""The rows of a file for scoring calls: read here where the library for it is installed, else by the service."""

from __future__ import annotations

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.tables import reading
from airflow_provider_azureml_classic.tables.kinds import NUMBER, TEXT, Kind
from airflow_provider_azureml_classic.tables.rows import MISSING_LIBRARY, parse_rows

_NUMBERS = frozenset({"number", "integer"})
#: The column of an answer that has the type of the label.
_LABELS = "Scored Labels"
#: Codes of a service that does not read files, or not one so large.
_NOT_READ = frozenset({"OperationNotSupported", "RequestBodyTooLarge"})


def file_rows(
    client: Verbs, endpoint: Endpoint, content: bytes, name: str, *, label: str = "", otherwise: str = ""
) -> Program[Table]:
    """The rows of a file as an endpoint is asked to score them: every cell a text, numbers with a decimal point.

    What its model takes for numbers is one, and a cell ``1,5`` of a column of texts stays a text.

    :param client: of the workspace.
    :param endpoint: of a scoring service.
    :param content: the file.
    :param name: what it is called; the extension tells the format, and messages show it.
    :param label: the column that the endpoint predicts, if the file has it.
    :param otherwise: a sentence: what else may be done where neither this machine nor the service reads it.
    :raises RequestRejected: it cannot be read; the message begins with its name.
    :raises ValueError: the library that reads files is not installed, and the service does not read it either.
    """
    if not reading.installed():
        return (yield from _by_service(client, endpoint, content, name, otherwise))
    types = (yield Verbs.names.steps(client, endpoint)).types
    if label and _LABELS in types:
        types = {**types, label: types[_LABELS]}
    kinds = {column: Kind(NUMBER if kind in _NUMBERS else TEXT) for column, kind in types.items()}
    return parse_rows(content, name, kinds=kinds)


def _by_service(client: Verbs, endpoint: Endpoint, content: bytes, name: str, otherwise: str) -> Program[Table]:
    try:
        table: Table = yield Verbs.read_rows.steps(client, endpoint, content, name.rpartition("/")[2])
    except RequestRejected as error:
        if error.detail_code not in _NOT_READ:
            raise
        raise ValueError(
            f"{name} cannot be read: that {MISSING_LIBRARY}. {error.message} {otherwise}".rstrip()
        ) from None
    return table
