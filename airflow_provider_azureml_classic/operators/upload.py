"""Uploading training data to where the service reads them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from airflow.sdk import BaseHook, ObjectStoragePath
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.exceptions import RequestRejected, rejection
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator, airflow_errors, skip
from airflow_provider_azureml_classic.protocol.references import (
    ARFF_EXTENSION,
    CSV_EXTENSION,
    DATA_EXTENSIONS,
    PARQUET_EXTENSION,
    BlobReference,
)
from airflow_provider_azureml_classic.protocol.sas import StorageAccount, permissions_of
from airflow_provider_azureml_classic.retraining.data import (
    Meter,
    ParquetMeter,
    file_pieces,
    meter_of,
    parquet_pieces,
    row_pieces,
)
from airflow_provider_azureml_classic.tables.reading import title_of

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Life of the token that an upload is made with; it leaves this process in the upload's own requests only.
_SAS_LIFE = timedelta(hours=24)
#: Letters of a token, any one of which allows a blob to be written.
_MAY_WRITE = frozenset("cw")


class UploadDataOperator(AzureMLClassicOperator):
    """Puts training data, or rows to score, where the service reads them: as a CSV file with a header row,
    a TSV, an ARFF or a Parquet file.

    The data come from a file or from an SQL query; they are streamed, so their size does not matter. The file appears,
    or replaces an older one, only once all of it has arrived; so a retry does no harm.

    Returns a dict: ``location`` (for ``inputs`` of a batch job), ``rows`` below the header row (``None`` for a Parquet
    file where pyarrow is not installed), ``bytes`` and ``sha256``. Each is an XCom of its own, too::

        BatchExecutionOperator(..., inputs={"input1": upload.output["location"]})

    :param destination: where to: a path ``container/file.csv`` in the storage account of the connection's extra
        ``storage_connection_string``, or without one in the service's own store; or a URL with a SAS token that allows
        creating or writing. (templated)
    :param source: a file: a local path, or any URL that ``ObjectStoragePath`` reads. It is passed on as it is, to a
        destination with its extension; Parquet is converted to CSV if the destination is one. Where pyarrow is
        installed (extra ``data``) it is read as the service will read it, and refused as there. (templated)
    :param source_conn_id: connection that opens ``source``, if it is a URL. (templated)
    :param sql: instead of ``source``, a query whose rows are the data, or a ``.sql`` file. (templated)
    :param sql_conn_id: connection of the database, of any type that Airflow's common SQL hook knows. (templated)
    :param sql_parameters: values of the query's placeholders. (templated)
    :param fetch_size: rows of the query in memory at a time.
    :param if_empty: when there is no row: ``fail`` or ``skip`` the task, or ``upload`` the header row alone. The first
        two leave an older file as it is.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "destination",
        "source",
        "source_conn_id",
        "sql",
        "sql_conn_id",
        "sql_parameters",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql", "sql_parameters": "json"}  # noqa: RUF012
    ui_color = "#fce7f3"

    def __init__(
        self,
        *,
        destination: Mapping[str, Any] | str,
        source: ObjectStoragePath | str | None = None,
        source_conn_id: str | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        sql_parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        fetch_size: int = 2_000,
        if_empty: Literal["fail", "skip", "upload"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"multiple_outputs": True, **kwargs})
        self.destination = destination
        self.source = source
        self.source_conn_id = source_conn_id
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.sql_parameters = sql_parameters
        self.fetch_size = fetch_size
        self.if_empty = if_empty

    def execute(self, context: Context) -> dict[str, Any]:
        """Stream from the source to the destination."""
        with airflow_errors():
            self._check()
            destination = BlobReference.parse(self.destination)
            reference = self._writable(destination)
            meter = meter_of(
                "The answer to the query" if self.sql else str(self.source), title_of(destination.extension)
            )
            facts = self.hook.client.store_stream(reference, self._checked(meter))
        # In the connection's account the path alone is enough, and stays right when the account moves.
        location = reference.location if destination.base_location else reference.relative_location
        rows = "a file whose rows only the service counts" if meter.rows is None else f"{meter.rows} rows"
        self.log.info("Uploaded %s, %d bytes, to %s.", rows, facts.length, reference.location)
        return {"location": location, "rows": meter.rows, "bytes": facts.length, "sha256": facts.sha256}

    def _check(self) -> None:
        if (self.source is None) == (self.sql is None) or (self.sql is not None and not self.sql_conn_id):
            raise ValueError("Give either source (a path or URL), or sql with sql_conn_id.")
        if self.if_empty not in ("fail", "skip", "upload"):
            raise ValueError(f"if_empty is {self.if_empty!r}; it must be 'fail', 'skip' or 'upload'.")

    # -- where to ------------------------------------------------------------------------------------------------------

    def _writable(self, destination: BlobReference) -> BlobReference:
        """The destination with a token that allows writing it."""
        extensions = self._extensions()
        if destination.extension not in extensions:
            raise rejection(
                "InvalidBlobExtension",
                f"destination is {destination.location!r}; it must end in {' or '.join(extensions)}.",
            )
        reference = self.hook.reference(destination)  # refuses an expired token
        if reference.sas_token:
            if not _MAY_WRITE & set(permissions_of(reference.sas_token)):
                raise ValueError(
                    f"The SAS token of {reference.location} does not allow writing; "
                    "sign one with sp=cw (create, write)."
                )
            return reference
        if "/" not in reference.relative_location:
            raise ValueError(f"destination is {reference.location!r}; it must be container/file.csv.")
        text = reference.connection_string or self.hook.settings.storage_connection_string
        account = StorageAccount.from_connection_string(text) if text else None
        if account is None:
            opened = self._signed_by_service(reference)
        else:
            opened = account.opened(reference, "cw", _SAS_LIFE, datetime.now(UTC))
        if opened is None:
            raise ValueError(
                f"Nothing allows writing {destination.location!r}: connection {self.azureml_classic_conn_id!r} has no "
                "storage_connection_string for it. Add that extra, or give destination as a URL with a SAS token that "
                "allows writing (sp=cw)."
            )
        return opened

    def _signed_by_service(self, reference: BlobReference) -> BlobReference | None:
        """The destination as the service opens it; ``None``: it is not in its store, or it opens nothing."""
        try:
            return self.hook.client.sign_blob(reference)
        except RequestRejected:
            return None

    # -- where from ----------------------------------------------------------------------------------------------------

    def _checked(self, meter: Meter) -> Iterator[bytes]:
        """The data; an error here leaves the destination as it was."""
        yield from meter.watch(self._from_query() if self.sql else self._from_file(meter))
        if meter.rows is None or meter.rows or self.if_empty == "upload":
            return
        message = f"{meter.name} has {meter.heading} but no data rows; nothing was uploaded."
        raise skip(self, message) if self.if_empty == "skip" else ValueError(message)

    def _extensions(self) -> tuple[str, ...]:
        """What the destination may end in: the service reads a blob as its extension says."""
        if self.sql or self._is_parquet:
            return (CSV_EXTENSION, PARQUET_EXTENSION) if self._is_parquet else (CSV_EXTENSION,)
        source = str(self.source).lower()
        if not source.endswith(DATA_EXTENSIONS):
            return DATA_EXTENSIONS
        return tuple(one for one in DATA_EXTENSIONS if source.endswith(ARFF_EXTENSION) == (one == ARFF_EXTENSION))

    @property
    def _is_parquet(self) -> bool:
        return str(self.source or "").lower().endswith((".parquet", ".pq"))

    def _from_file(self, meter: Meter) -> Iterator[bytes]:
        try:
            file = self._open()
        except FileNotFoundError:
            # Not necessarily a mistake: it may arrive later, so the task may be retried.
            raise AirflowException(f"There is no file {self.source}.") from None
        with file:
            if isinstance(meter, ParquetMeter):
                meter.check(file)
            convert = self._is_parquet and not isinstance(meter, ParquetMeter)
            yield from parquet_pieces(file, meter.name) if convert else file_pieces(file)

    def _open(self) -> IO[bytes]:
        if isinstance(self.source, str) and "://" not in self.source:
            return open(self.source, "rb")
        path: Any = ObjectStoragePath(cast("str", self.source), conn_id=self.source_conn_id)
        return cast("IO[bytes]", path.open("rb"))

    def _from_query(self) -> Iterator[bytes]:
        with closing(_connected(str(self.sql_conn_id))) as connection, closing(_streaming(connection)) as cursor:
            cursor.execute(self.sql, *([] if self.sql_parameters is None else [self.sql_parameters]))
            # Some drivers describe the columns only after the first rows were fetched.
            first = cursor.fetchmany(self.fetch_size)
            if not cursor.description:
                raise ValueError("The query returns no rows at all; it must be a SELECT.")
            yield from row_pieces([column[0] for column in cursor.description], self._batches(cursor, first))

    def _batches(self, cursor: Any, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        while rows:
            yield rows
            rows = cursor.fetchmany(self.fetch_size)


def _connected(conn_id: str) -> Any:
    connection: Any = BaseHook.get_connection(conn_id)
    hook = connection.get_hook()
    if not hasattr(hook, "get_records"):
        raise ValueError(f"Connection {conn_id!r} is not one of a database: its hook is {type(hook).__name__}.")
    return hook.get_conn()


def _streaming(connection: Any) -> Any:
    """A cursor whose rows stay with the database until they are fetched; most drivers have no other kind."""
    driver = type(connection).__module__.partition(".")[0]
    if driver in ("psycopg2", "psycopg"):
        return connection.cursor(name=f"azureml_classic_{uuid.uuid4().hex}")
    if driver in ("MySQLdb", "pymysql"):
        return connection.cursor(import_module(f"{driver}.cursors").SSCursor)
    return connection.cursor()
