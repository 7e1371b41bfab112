"""Data in: from files and queries to the own store and to storage accounts, in blocks, against the running server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from pyarrow import parquet

from airflow_provider_azureml_classic.client import AsyncClient, Client
from airflow_provider_azureml_classic.client.answers import BlobFacts
from airflow_provider_azureml_classic.client.retries import NO_RETRIES
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.operators import BatchExecutionOperator, UploadDataOperator
from airflow_provider_azureml_classic.operators.upload import _streaming
from airflow_provider_azureml_classic.protocol import operations as ops
from airflow_provider_azureml_classic.protocol.blocks import BLOCK_SIZE
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from tests.support import BIKES, ServerProcess
from tests.support.verbs import context, own_name, training_csv
from tests.tables.support import CASES

pytestmark = pytest.mark.usefixtures("airflow_connection")
DATA = "a,b\n1,x\n2,y\n"


@pytest.fixture
def path() -> str:
    """A place in the own store of a test's own."""
    return f"upload/{own_name()}.csv"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A CSV file of two rows."""
    (tmp_path / "data.csv").write_text(DATA)
    return tmp_path / "data.csv"


def run(**options: Any) -> dict[str, Any]:
    """What the operator returns."""
    return UploadDataOperator(task_id="t", **options).execute(context())


def content(server: ServerProcess, client: Client, path: str) -> str:
    """What is in the own store."""
    return client.fetch_blob(server.sas(path)).decode()


def exists(server: ServerProcess, client: Client, path: str) -> bool:
    """Whether there is such a blob."""
    try:
        client.fetch_blob(server.sas(path))
    except AzureMLClassicError:
        return False
    return True


def told(location: str, text: str, rows: int) -> dict[str, Any]:
    """What the operator returns for a text."""
    data = text.encode()
    return {"location": location, "rows": rows, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# -- from files --------------------------------------------------------------------------------------------------------


def test_local_file(server: ServerProcess, client: Client, path: str, file: Path) -> None:
    """A local file arrives as it is; a second upload replaces it."""
    assert run(destination=path, source=str(file)) == told(path, DATA, 2)
    assert content(server, client, path) == DATA
    file.write_text("a\n1\n")
    assert run(destination=path, source=str(file)) == told(path, "a\n1\n", 1)
    assert content(server, client, path) == "a\n1\n"


@pytest.mark.slow
@pytest.mark.parametrize("as_text", [True, False])
def test_object_storage(server: ServerProcess, client: Client, path: str, file: Path, as_text: bool) -> None:
    """Any URL that ObjectStoragePath reads is a source, as text or as such a path."""
    url = f"file://{file}"
    assert run(destination=path, source=url if as_text else ObjectStoragePath(url))["rows"] == 2
    assert content(server, client, path) == DATA


@pytest.mark.slow
def test_parquet_is_converted(server: ServerProcess, client: Client, path: str, tmp_path: Path) -> None:
    """A Parquet file, local or behind a URL, arrives as CSV."""
    parquet.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), tmp_path / "d.parquet")
    for source in (str(tmp_path / "d.parquet"), f"file://{tmp_path / 'd.parquet'}"):
        assert run(destination=path, source=source)["rows"] == 2
        assert content(server, client, path) == 'a,b\n1,"x"\n2,\n'
    with pytest.raises(AirflowFailException, match=r"must end in \.csv or \.parquet"):
        run(destination=path.replace(".csv", ".tsv"), source=source)


def test_parquet_passes(server: ServerProcess, client: Client, path: str, tmp_path: Path) -> None:
    """To a place that ends so it goes as it is, once the service could read it."""
    source, place = tmp_path / "d.parquet", path.replace(".csv", ".parquet")
    parquet.write_table(pa.table({"a": [1, 2], "b": ["x", None]}), source)
    assert run(destination=place, source=str(source))["rows"] == 2
    assert client.fetch_blob(server.sas(place)) == source.read_bytes()
    source.write_bytes(source.read_bytes()[:-4])
    with pytest.raises(AirflowFailException, match=r"d\.parquet: The Parquet file cannot be read"):
        run(destination=place, source=str(source))


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("15/cr.csv", 60, ""),
        ("15/utf16.csv", 60, ""),
        ("21/multiline_ok.csv", 100, ""),
        ("21/last_column.csv", 0, "in data row 101 a quote that opens a cell is never closed"),
    ],
)
def test_what_the_service_reads_is_uploaded(path: str, name: str, rows: int, message: str) -> None:
    """Files are checked by the rules of the service: none that it reads is refused, none that it refuses is sent."""
    if message:
        with pytest.raises(AirflowFailException, match=message):
            run(destination=path, source=str(CASES / name))
    else:
        assert run(destination=path, source=str(CASES / name))["rows"] == rows


def test_arff_and_tsv(server: ServerProcess, client: Client, path: str, tmp_path: Path) -> None:
    """They arrive as they are, at a place whose extension says so, and their rows are counted."""
    texts = {"tsv": "a\tb\n1\tx\n2\ty\n", "arff": "@attribute a real\n@data\n1\n% said\n2\n"}
    for extension, text in texts.items():
        (tmp_path / f"d.{extension}").write_text(text)
        place = path.replace(".csv", f".{extension}")
        assert run(destination=place, source=f"{tmp_path}/d.{extension}") == told(place, text, 2)
        assert content(server, client, place) == text
    (tmp_path / "d.arff").write_text("@attribute a real\n@data\n")
    with pytest.raises(AirflowFailException, match="has @attribute lines but no data rows"):
        run(destination=path.replace(".csv", ".arff"), source=f"{tmp_path}/d.arff")


def test_missing_file(server: ServerProcess, path: str, tmp_path: Path) -> None:
    """A file that is not there may come later, so the task may be retried."""
    for source in (f"{tmp_path}/none.csv", f"file://{tmp_path}/none.csv"):
        with pytest.raises(AirflowException, match=r"There is no file .*none\.csv") as caught:
            run(destination=path, source=source)
        assert not isinstance(caught.value, AirflowFailException)


def test_no_header_row(server: ServerProcess, client: Client, path: str, file: Path) -> None:
    """Data without a header row are refused, and what was there stays."""
    run(destination=path, source=str(file))
    file.write_text("39,State-gov\n50,Private\n")
    with pytest.raises(AirflowFailException, match=r"data\.csv: The CSV needs a header row: .* the number 39"):
        run(destination=path, source=str(file))
    assert content(server, client, path) == DATA


def test_no_rows(server: ServerProcess, client: Client, path: str, file: Path) -> None:
    """Without rows the task fails, is skipped, or uploads the header row: as it was told to."""
    file.write_text("a,b\n")
    with pytest.raises(AirflowFailException, match="header row but no data rows; nothing was uploaded"):
        run(destination=path, source=str(file))
    with pytest.raises(AirflowSkipException, match="no data rows"):
        run(destination=path, source=str(file), if_empty="skip")
    assert not exists(server, client, path)
    assert run(destination=path, source=str(file), if_empty="upload")["rows"] == 0
    assert content(server, client, path) == "a,b\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Give either source"),
        ({"source": "x.csv", "sql": "SELECT 1", "sql_conn_id": "db"}, "Give either source"),
        ({"sql": "SELECT 1"}, "sql with sql_conn_id"),
        ({"source": "x.csv", "if_empty": "maybe"}, "if_empty is 'maybe'"),
        ({"source": "x.csv", "destination": "upload/data.txt"}, r"must end in \.csv or \.tsv"),
        ({"source": "x.csv", "destination": "data.csv"}, r"must be container/file\.csv"),
        ({"source": "x.csv", "destination": "upload/data.arff"}, r"must end in \.csv or \.tsv\."),
        ({"source": "x.ARFF"}, r"must end in \.arff\."),
    ],
    ids=["nothing", "both", "no connection", "if_empty", "extension", "container", "to arff", "from arff"],
)
def test_parameters(options: dict[str, Any], said: str, path: str) -> None:
    """What cannot be meant is refused with a sentence."""
    with pytest.raises(AirflowFailException, match=said):
        run(**{"destination": path, **options})


@pytest.mark.slow
def test_uploaded_data_train(server: ServerProcess, client: Client, path: str, tmp_path: Path) -> None:
    """What the operator returns is what the batch operator takes as its input."""
    (tmp_path / "rentals.csv").write_text(training_csv())
    uploaded = run(destination=path, source=str(tmp_path / "rentals.csv"))
    train = BatchExecutionOperator(
        task_id="t", web_service=BIKES, inputs={"input1": uploaded["location"]}, poll_interval=0.2
    )
    assert train.execute(context())["status"] == "Finished"


# -- from queries ------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of 1,000 sales behind the connection ``db``."""
    place = tmp_path / "sales.sqlite"
    connection = sqlite3.connect(place)
    connection.execute("CREATE TABLE sales (day TEXT, n INTEGER, note TEXT)")
    connection.executemany(
        "INSERT INTO sales VALUES (?, ?, ?)", [(f"2026-03-{1 + n % 28:02}", n, None) for n in range(1000)]
    )
    connection.commit()
    connection.close()

    monkeypatch.setenv("AIRFLOW_CONN_DB", json.dumps({"conn_type": "sqlite", "host": str(place)}))
    return place


@pytest.mark.parametrize("fetch_size", [1, 7, 10_000])
def test_query(server: ServerProcess, client: Client, path: str, database: Path, fetch_size: int) -> None:
    """The rows of a query arrive as CSV under the names of their columns, however many are fetched at a time."""
    sql = "SELECT day, n AS sold, note FROM sales WHERE n < ? ORDER BY n"
    found = run(destination=path, sql=sql, sql_conn_id="db", sql_parameters=[29], fetch_size=fetch_size)
    text = content(server, client, path)
    assert found == told(path, text, 29)
    assert text.splitlines()[:2] == ["day,sold,note", "2026-03-01,0,"]
    assert text.splitlines()[-1] == "2026-03-01,28,"


def test_query_without_rows(path: str, database: Path) -> None:
    """A query that finds nothing is no data."""
    with pytest.raises(AirflowSkipException, match="The answer to the query has a header row but no data rows"):
        run(destination=path, sql="SELECT * FROM sales WHERE n < 0", sql_conn_id="db", if_empty="skip")


def test_not_a_query(path: str, database: Path) -> None:
    """A statement without rows, and columns without different names, are refused."""
    with pytest.raises(AirflowFailException, match="it must be a SELECT"):
        run(destination=path, sql="DELETE FROM sales WHERE n < 0", sql_conn_id="db")
    with pytest.raises(AirflowFailException, match="has 'n' twice"):
        run(destination=path, sql="SELECT n, n FROM sales", sql_conn_id="db")


def test_not_a_database(path: str) -> None:
    """A connection that is no database is named."""
    with pytest.raises(
        AirflowFailException, match="'azureml_classic_default' is not one of a database: its hook is Azure"
    ):
        run(destination=path, sql="SELECT 1", sql_conn_id="azureml_classic_default")


def test_query_is_not_held(path: str, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are fetched while earlier ones are being sent: never all of them at once."""
    asked: list[int] = []

    class Cursor(sqlite3.Cursor):
        def fetchmany(self, size: int | None = 1) -> list[Any]:
            asked.append(size or 0)
            return super().fetchmany(size)

        def fetchall(self) -> list[Any]:
            raise AssertionError("all rows were fetched at once")

    monkeypatch.setattr("airflow_provider_azureml_classic.operators.upload._streaming", lambda c: c.cursor(Cursor))
    run(destination=path, sql="SELECT * FROM sales", sql_conn_id="db", fetch_size=300)
    assert asked == [300] * 5


def driver(module: str) -> Any:
    """A connection of a driver, which tells how its cursor was asked for."""
    kind = type("connection", (), {"cursor": lambda self, *given, **named: (given, named), "__module__": module})
    return kind()


def test_cursors_stay_with_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers whose plain cursor fetches everything are asked for the other kind."""
    for module in ("psycopg2.extensions", "psycopg"):
        given, named = _streaming(driver(module))
        assert (given, list(named)) == ((), ["name"])
    cursors = SimpleNamespace(SSCursor=object())
    monkeypatch.setitem(__import__("sys").modules, "MySQLdb", SimpleNamespace(cursors=cursors))
    monkeypatch.setitem(__import__("sys").modules, "MySQLdb.cursors", cursors)
    assert _streaming(driver("MySQLdb.connections")) == ((cursors.SSCursor,), {})
    assert _streaming(driver("oracledb.connection")) == ((), {})


# -- where to, and who may ---------------------------------------------------------------------------------------------


def url_of(reference: BlobReference) -> str:
    """A destination as a user pastes it."""
    return reference.url


@pytest.mark.parametrize("permissions", ["cw", "w", "c"])
def test_sas_url(server: ServerProcess, client: Client, path: str, file: Path, permissions: str) -> None:
    """A URL with a token is written with that token; the answer names the place without it."""
    found = run(destination=url_of(server.sas(path, permissions)), source=str(file))
    assert found == told(f"{server.account.endpoint}/{path}", DATA, 2)
    assert content(server, client, path) == DATA


def without_account(server: ServerProcess, monkeypatch: pytest.MonkeyPatch, **extra: str) -> None:
    """Take the storage account out of the connection."""
    connection = {**json.loads(server.connection["airflow_conn"]), "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_CLASSIC_DEFAULT", json.dumps(connection))


def test_nothing_allows_writing(
    server: ServerProcess, client: Client, path: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an account the service opens its own store; elsewhere the sentence says what to add."""
    without_account(server, monkeypatch)
    for destination in (path, f"{server.account.endpoint}/{path}"):
        assert run(destination=destination, source=str(file))["rows"] == 2
    with pytest.raises(AirflowFailException, match=r"Nothing allows writing.*storage_connection_string.*sp=cw"):
        run(destination=f"https://other.blob.core.windows.net/{path}", source=str(file))
    assert run(destination=url_of(server.sas(path, "cw")), source=str(file))["rows"] == 2


def test_url_in_the_account(server: ServerProcess, client: Client, path: str, file: Path) -> None:
    """A URL without a token is signed if it is in the connection's account, and refused if it is elsewhere."""
    assert run(destination=f"{server.account.endpoint}/{path}", source=str(file))["rows"] == 2
    with pytest.raises(AirflowFailException, match="Nothing allows writing"):
        run(destination=f"https://other.blob.core.windows.net/{path}", source=str(file))


def test_account_opened_by_a_token(
    server: ServerProcess, client: Client, path: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that is known by a token only is written with that."""
    token = server.sas(path, "cw").sas_token.lstrip("?")
    text = f"BlobEndpoint={server.account.endpoint};SharedAccessSignature={token}"
    without_account(server, monkeypatch, storage_connection_string=text)
    assert run(destination=path, source=str(file))["location"] == path
    assert content(server, client, path) == DATA


def test_tokens_that_do_not_do(server: ServerProcess, path: str, file: Path) -> None:
    """A token for reading, and one that has expired, are told apart before anything is sent."""
    with pytest.raises(AirflowFailException, match="does not allow writing; sign one with sp=cw"):
        run(destination=url_of(server.sas(path, "r")), source=str(file))
    with pytest.raises(AirflowFailException, match=r"The SAS token of .* expired at"):
        run(destination=url_of(server.sas(path, "cw", minutes=-1)), source=str(file))


def test_refusal_shows_no_secret(server: ServerProcess, path: str, file: Path) -> None:
    """A token that the store refuses is not shown in the error."""
    reference = server.sas("upload/another.csv", "cw")
    wrong = BlobReference(path, reference.base_location, reference.sas_token)
    with pytest.raises(AirflowFailException, match="HTTP 403") as caught:
        run(destination=url_of(wrong), source=str(file))
    assert "sig=" not in str(caught.value)
    assert path in str(caught.value)


def test_each_fact_is_an_xcom(path: str) -> None:
    """Each member of the answer can be passed on by its name."""
    task = UploadDataOperator(task_id="t", destination=path, source="x.csv")
    assert task.multiple_outputs
    assert not UploadDataOperator(
        task_id="t", destination=path, source="x.csv", multiple_outputs=False
    ).multiple_outputs


# -- blocks ------------------------------------------------------------------------------------------------------------


class Storage:
    """Plays Azure Storage: stages blocks, and puts together those that a list names."""

    def __init__(self) -> None:
        self.staged: dict[str, bytes] = {}
        self.blob: bytes | None = None
        self.requests: list[Request] = []
        self.answers: dict[ops.Operation, Response] = {}

    def __call__(self, request: Request) -> Response:
        """Answer."""
        self.requests.append(request)
        if request.operation in self.answers:
            return self.answers[request.operation]
        query = parse_qs(urlsplit(request.url).query)
        if query["comp"] == ["block"]:
            self.staged[query["blockid"][0]] = request.body
        else:
            listed = [part.partition("<")[0] for part in request.body.decode().split("<Latest>")[1:]]
            self.blob = b"".join(self.staged[one] for one in listed)
        return Response(201)

    def client(self) -> Client:
        """A client of it."""
        return Client("https://m.example", "w", "TOKEN", transport=self, retries=NO_RETRIES)


BLOB = BlobReference("c/x.csv", "https://acct.blob.core.windows.net/", "?sv=1&sig=U0VD%3D")


@pytest.mark.parametrize("size", [1, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 2 * BLOCK_SIZE + 5])
def test_blocks(size: int) -> None:
    """Whatever the size, blocks of 4 MiB and a last one are sent with ids of one length, then their list."""
    storage, data = Storage(), bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    pieces = (data[start : start + 300_000] for start in range(0, size, 300_000))
    facts = storage.client().store_stream(BLOB, pieces)
    assert storage.blob == data
    assert facts == BlobFacts(size, hashlib.sha256(data).hexdigest())
    *blocks, last = storage.requests
    assert [len(block.body) for block in blocks[:-1]] == [BLOCK_SIZE] * (len(blocks) - 1)
    assert len({len(one) for one in storage.staged}) == 1
    assert last.operation is ops.PUT_BLOCK_LIST
    assert last.headers[ops.BLOB_SHA256] == facts.sha256
    assert all("authorization" not in request.headers for request in storage.requests)
    assert all(request.url.startswith(f"{BLOB.url}&comp=block") for request in storage.requests)


def test_two_uploads_have_different_blocks() -> None:
    """Blocks of two uploads to the same blob are never mistaken for one another."""
    storage = Storage()
    for data in (b"one", b"two"):
        storage.client().store_stream(BLOB, [data])
    assert sorted(storage.staged.values()) == [b"one", b"two"]


def test_an_error_of_the_source_writes_nothing() -> None:
    """When the source breaks off, no list is sent, so the blob stays as it was."""

    def pieces() -> Iterator[bytes]:
        yield b"x" * BLOCK_SIZE
        raise RuntimeError("the database went away")

    storage = Storage()
    with pytest.raises(RuntimeError, match="went away"):
        storage.client().store_stream(BLOB, pieces())
    assert [request.operation for request in storage.requests] == [ops.PUT_BLOCK]


def test_overtaken_by_another_upload() -> None:
    """Another upload to the same blob drops our blocks: the error says so, and may be retried."""
    storage = Storage()
    body = b'<?xml version="1.0"?><Error><Code>InvalidBlockList</Code><Message>Bad.</Message></Error>'
    storage.answers[ops.PUT_BLOCK_LIST] = Response(400, {}, body.removeprefix(b'<?xml version="1.0"?>'))
    with pytest.raises(ServiceUnavailable, match="was written by somebody else at the same time"):
        storage.client().store_stream(BLOB, [b"a\n"])


def test_tokens_are_masked_once() -> None:
    """The token is masked when the upload begins, and not once more for each block."""
    seen: list[str] = []
    storage = Storage()
    client = Client("https://m.example", "w", "TOKEN", transport=storage, on_secret=seen.append)
    client.store_stream(BLOB, [b"x" * 3 * BLOCK_SIZE])
    assert seen == [BLOB.sas_token.lstrip("?")]


async def test_asynchronous_client(server: ServerProcess) -> None:
    """The asynchronous client uploads in blocks, too."""
    data = b"a,b\n" + b"1,2\n" * (BLOCK_SIZE // 3)
    reference = server.sas(f"upload/{own_name()}.csv", "rcw")
    async with AsyncClient(server.url, "w", "t") as client:
        facts = await client.store_stream(reference, [data])
        assert await client.fetch_blob(reference) == data
    assert facts == await asyncio.to_thread(server.client().blob_facts, reference)


def peak(action: Callable[[], Any]) -> int:
    """Most bytes that an action held at a time."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def write(place: Path, mebibytes: int) -> Path:
    """A CSV file of that size."""
    line = "2026-03-01," + "x" * 1012 + "\n"
    with place.open("w") as out:
        out.write("day,note\n")
        for _ in range(mebibytes):
            out.write(line * 1024)
    return place


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(server: ServerProcess, client: Client, path: str, tmp_path: Path) -> None:
    """50 MiB need no more memory than 5 MiB do: a few blocks."""
    run(destination=path, source=str(write(tmp_path / "warm.csv", 1)))
    small, large = write(tmp_path / "5.csv", 5), write(tmp_path / "50.csv", 50)
    peaks = [peak(lambda source=source: run(destination=path, source=str(source))) for source in (small, large)]
    assert client.blob_facts(server.sas(path)).length == large.stat().st_size
    assert peaks[1] < peaks[0] + 2 * BLOCK_SIZE
    assert peaks[1] < 5 * BLOCK_SIZE


@pytest.mark.slow
def test_memory_does_not_grow_with_the_query(path: str, database: Path) -> None:
    """The same for a query: ten times the rows need no more memory."""
    sql = """
        WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < ?)
        SELECT n, printf('%1000d', n) s FROM t
    """

    def upload(rows: int) -> Callable[[], Any]:
        return lambda: run(destination=path, sql=sql, sql_conn_id="db", sql_parameters=[rows], fetch_size=500)

    upload(10)()
    small, large = peak(upload(5_000)), peak(upload(50_000))
    assert large < small + 2 * BLOCK_SIZE
    assert large < 6 * BLOCK_SIZE
