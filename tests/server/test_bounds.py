"""What each decoder makes of what it reads: the worst inputs known, and bytes made for each byte read.

What is read may be refused: what counts is what was made until then.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol import sas
from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.operations import query_values
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import read_input, write_output
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.server.blobs.store import MAX_BLOCKS
from airflow_provider_azureml_classic.server.blobs.xml import StorageError, read_block_list
from airflow_provider_azureml_classic.server.experiments import Scorer, batch, ilearner, load_experiments
from airflow_provider_azureml_classic.server.experiments.frame import read_table
from airflow_provider_azureml_classic.server.experiments.parameters import Parameter, checked
from airflow_provider_azureml_classic.server.portal.site import fields_of
from airflow_provider_azureml_classic.server.web import json_body
from airflow_provider_azureml_classic.tables import arff, delimited, names, reading
from airflow_provider_azureml_classic.tables.rows import parse_rows
from tests.support.memory import peak
from tests.support.service import Service

MIB = 1 << 20


def objects(count: int) -> bytes:
    """A list of objects, each with a name of its own."""
    return b"[%s]" % b",".join(b'{"a%d":1}' % number for number in range(count))


def zipped(**members: bytes) -> bytes:
    """A zip with these members, ``_`` in a name standing for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def of_file(name: str) -> Callable[[bytes, Path], Any]:
    """Reads bytes as training data are read."""

    def read(content: bytes, folder: Path) -> Any:
        path = folder / name
        path.write_bytes(content)
        return read_table(path)

    return read


def score_objects(content: bytes, _: Path) -> Any:
    """Reads the rows of a scoring call, and repeats them."""
    return write_output(read_input("input1", json.loads(content)), swagger=True, details=True)


def declare(content: bytes, folder: Path) -> Any:
    """Reads a declaration."""
    path = folder / "x.toml"
    path.write_bytes(content)
    return load_experiments(path)


def signed(content: bytes, _: Path) -> Any:
    """Reads a location as it comes with a job or an update."""
    reference = BlobReference.from_wire({"RelativeLocation": "a/b", "SasBlobToken": content.decode()}, strict=True)
    return sas.permissions_of(reference.sas_token)


def connected(content: bytes, _: Path) -> Any:
    """The same with a connection string."""
    data = {"RelativeLocation": "a/b", "ConnectionString": content.decode()}
    return sas.StorageAccount.from_connection_string(BlobReference.from_wire(data, strict=True).connection_string)


def read_blocks(content: bytes, _: Path) -> Any:
    """Reads the blocks of a blob."""
    return read_block_list(content)


def read_model(content: bytes, _: Path) -> Any:
    """Reads a model file."""
    return ilearner.read_ilearner(content)


def numbered(form: bytes, count: int, between: bytes = b"") -> bytes:
    """Many items, all different."""
    return between.join(form % number for number in range(count))


PARAMETER = {"p": Parameter("p", "threshold")}
ARFF = b"@relation r\n%s@data\n%s"

#: What is read, how, and bytes made for each byte, at most.
CASES: dict[str, tuple[Callable[[], bytes], Callable[[bytes, Path], Any], int]] = {
    "JSON lists": (lambda: b"[%s]" % b",".join([b"[]"] * 100_000), lambda c, _: json_body.read(c), 32),
    "JSON lists of one": (lambda: b"[%s]" % b",".join([b"[1]"] * 100_000), lambda c, _: json_body.read(c), 32),
    "JSON objects": (lambda: b"[%s]" % b",".join([b'{"":1}'] * 100_000), lambda c, _: json_body.read(c), 40),
    "JSON depth": (lambda: b'{"":' * 200_000, lambda c, _: json_body.read(c), 2),
    "JSON escapes": (lambda: b'"%s"' % (b"\\ud83d\\ude00" * 100_000), lambda c, _: json_body.read(c), 4),
    "rows of other names each": (lambda: objects(2_000), score_objects, 64),
    "rows of other names each, as many as are read": (lambda: objects(545), score_objects, 2_600),
    "rows of one long name": (
        lambda: json.dumps({"ColumnNames": ["x" * 100_000], "Values": [[1]] * 20_000}).encode(),
        score_objects,
        64,
    ),
    "global parameters": (lambda: b'{"p":"%s"}' % (b"1" * MIB), lambda c, _: checked(PARAMETER, json.loads(c)), 4),
    "CSV of commas": (lambda: b"," * MIB, of_file("x.csv"), 16),
    "CSV of many columns": (
        lambda: numbered(b"a%d,", 50_000) + b"x\n" + b"1," * 50_000 + b"1\n",
        of_file("x.csv"),
        320,
    ),
    "CSV of many columns and rows": (
        lambda: numbered(b"a%d,", 20_000) + b"x\n" + (b"1," * 20_000 + b"1\n") * 250,
        of_file("x.csv"),
        32,
    ),
    "CSV of an open quote": (lambda: b'a,b\n1,"' + b"\n" * (2 * MIB), of_file("x.csv"), 4),
    "CSV of different cells": (lambda: b"a\n" + numbered(b"%d\n", 100_000), of_file("x.csv"), 64),
    "CSV of line breaks in quotes": (lambda: b"a\n" + b'"\n\n",' * 100_000, of_file("x.csv"), 32),
    "CSV to be scored": (lambda: b"a\n" + b"1\n" * 100_000, lambda c, _: parse_rows(c, "x.csv"), 64),
    "TSV of tabs": (lambda: b"\t" * MIB, of_file("x.tsv"), 16),
    "ARFF of attributes": (lambda: ARFF % (numbered(b"@attribute a%d real\n", 30_000), b""), of_file("x.arff"), 64),
    "ARFF of values": (
        lambda: ARFF % (b"@attribute a {%s}\n" % numbered(b"%d", 100_000, b","), b""),
        of_file("x.arff"),
        64,
    ),
    "ARFF of a row that is too long": (
        lambda: ARFF % (b"@attribute a real\n", b"12," * 300_000),
        of_file("x.arff"),
        32,
    ),
    "ARFF of sparse rows": (
        lambda: ARFF % (numbered(b"@attribute a%d real\n", 5_000), b"{}\n" * 50_000),
        of_file("x.arff"),
        700,
    ),
    "block list": (lambda: b"<BlockList>%s</BlockList>" % (b"<Latest/>" * 200_000), read_blocks, 4),
    "block list of attributes": (
        lambda: b"<BlockList><Latest %s/></BlockList>" % numbered(b'a%d="" ', 50_000),
        read_blocks,
        64,
    ),
    "block list of blanks": (lambda: b"<BlockList>%s</BlockList>" % (b"\n" * MIB), read_blocks, 8),
    "SAS token": (lambda: b"a=&" * 100_000, signed, 4),
    "connection string": (lambda: numbered(b"%d=;", 100_000), connected, 4),
    "form": (lambda: b"&a=" * 100_000, lambda c, _: fields_of(c), 4),
    "query": (lambda: numbered(b"%d=&", 8_000), lambda c, _: query_values(c.decode()), 64),
    "declaration of tables": (lambda: numbered(b"[a.%d]\n", 30_000), declare, 128),
    "declaration of depth": (lambda: b"a=" + b"[" * 100_000, declare, 8),
    "declaration of size": (lambda: b"#" * (4 * MIB), declare, 1),
    "model file of blanks": (lambda: zipped(manifest_json=b" " * (20 * MIB), model_onnx=b""), read_model, 1),
    "model file of a large manifest": (
        lambda: zipped(manifest_json=b"[%s]" % (b"[]," * 120_000), model_onnx=b""),
        read_model,
        1500,
    ),
    "model file of a large graph": (lambda: zipped(manifest_json=b"{}", model_onnx=bytes(80 * MIB)), read_model, 1),
    "model file of many members": (lambda: zipped(**{f"m{n}": b"" for n in range(5_000)}), read_model, 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_a_decoder_makes_is_bounded_by_what_it_reads(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """However it was written, some bytes make so many bytes and not more."""
    make, decode, most = CASES[name]
    content = make()
    with peak() as so_far:
        with suppress(RequestRejected, StorageError, ValueError, RecursionError):
            decode(content, tmp_path)
        made = so_far()
    record_property("bytes made for each byte read", round(made / len(content), 1))
    print(f"BOUND {name}: {len(content)} read, {made} made, {made / len(content):.1f}")
    assert made <= most * len(content) + MIB


# -- what is said ----------------------------------------------------------------------------------------------------


def score(service: Service, endpoint: Endpoint, data: Any, query: str = "") -> Response:
    """Ask for scores."""
    path = service.api_path(endpoint, "/execute") + query
    return service.ask("POST", path, {"Inputs": {"input1": data}}, key=endpoint.primary_key)


def loaded(service: Service) -> Scorer:
    """The model that is loaded."""
    (model,) = service.app._scoring._models._loaded.values()
    return model


def test_objects_of_many_names_are_refused_with_the_limit(service: Service, scorer: Endpoint) -> None:
    """The error says how large the table would be, and what to do."""
    answer = score(service, scorer, [{"x": 1, f"a{number}": 1} for number in range(5_000)])
    assert answer.status == 400
    said = json.loads(answer.body)["error"]["details"][0]["message"]
    assert "25,005,000 cells" in said
    assert "Send fewer rows" in said


@pytest.mark.slow
def test_objects_that_leave_out_what_they_may_are_answered(service: Service, scorer: Endpoint) -> None:
    """A thousand columns of which each row has a few: what no table of the same rows could be refused for."""
    rows = [{"x": 1, **{f"a{(number * 7 + i) % 1000}": 1 for i in range(15)}} for number in range(1000)]
    assert len(json.loads(score(service, scorer, rows).body)["Results"]["output1"]["value"]["Values"]) == 1000


def test_rows_without_bytes_are_counted(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model takes and answers is a table too, of more columns than were sent."""
    assert score(service, scorer, {"ColumnNames": ["x"], "Values": [[1]]}).status == 200
    monkeypatch.setattr(loaded(service), "most_rows", 3)
    assert score(service, scorer, {"ColumnNames": ["x"], "Values": [[1]] * 3}).status == 200
    answer = score(service, scorer, {"ColumnNames": ["x"], "Values": [[1]] * 4})
    assert answer.status == 400
    assert b"batch job" in answer.body


def test_a_text_in_many_rows_is_counted_in_each(service: Service, scorer: Endpoint) -> None:
    """A file of some hundred bytes is not read as gigabytes of rows, which no call would take."""
    score(service, scorer, {"ColumnNames": ["x"], "Values": [[1]]})
    texts = pa.array(["a" * 100_000]).take(pa.array([0] * 60))
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"x": pa.array([1.0] * 60), "note": texts}), buffer, compression="zstd")
    path = service.api_path(scorer, "/rows") + "&file=x.parquet"
    answer = service.ask("POST", path, buffer.getvalue(), key=scorer.primary_key)
    assert (answer.status, b"score it as a batch job" in answer.body) == (400, True)


def test_a_row_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a header, of a row, of a row of quoted line breaks, in all formats: it is not read to its end."""
    for module in (delimited, arff):
        monkeypatch.setattr(module, "MAX_RECORD", 1000)
    monkeypatch.setattr(reading, "_LINES", 500)
    monkeypatch.setattr(delimited, "BLOCK", 500)
    for name, content in (
        ("x.csv", "a," * 600 + "b\n1"),
        ("x.csv", "a,b\n" + "1," * 600),
        ("x.csv", "a,b\n" + '"\n",' * 600),
        ("x.tsv", "a\tb\n" + "1\t" * 600),
        ("x.arff", "@relation r\n@attribute a real\n@data\n" + "1," * 600),
    ):
        with pytest.raises(RequestRejected, match=r"longer than|never closed within"):
            of_file(name)(content.encode(), tmp_path)
    many = "a,b\n" + "1,2\n" * 2000
    assert read_rows(many, tmp_path) == 2000


def test_columns_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs more than the letters of its name."""
    monkeypatch.setattr(names, "MAX_COLUMNS", 3)
    assert read_rows("a,b,c\n1,2,3\n", tmp_path) == 1
    with pytest.raises(RequestRejected, match="4 columns; at most 3"):
        read_rows("a,b,c,d\n1,2,3,4\n", tmp_path)


def test_columns_of_a_call_are_counted(service: Service, scorer: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a table is made of the file; a model of many columns may be sent as many."""
    monkeypatch.setattr(batch, "MAX_CALL_COLUMNS", 3)
    path = service.api_path(scorer, "/rows") + "&file=x.csv"
    assert service.ask("POST", path, b"x,a,b\n1,2,3\n", key=scorer.primary_key).status == 200
    answer = service.ask("POST", path, b"x,a,b,c\n1,2,3,4\n", key=scorer.primary_key)
    assert (answer.status, b"4 columns; at most 3" in answer.body) == (400, True)


def read_rows(text: str, folder: Path) -> int:
    """Number of rows of a CSV."""
    return int(of_file("x.csv")(text.encode(), folder).rows)


def test_plans_of_strangers_columns_are_not_kept(service: Service, scorer: Endpoint) -> None:
    """A model remembers where the columns of a call stand, but of no call with other columns than its own."""
    score(service, scorer, {"ColumnNames": ["x"], "Values": [[1]]})
    model = loaded(service)
    kept = len(model._plans)
    score(service, scorer, {"ColumnNames": ["x", *(f"a{number}" for number in range(200))], "Values": [[1] * 201]})
    score(service, scorer, {"ColumnNames": ["x", "a" * 10_000], "Values": [[1, 1]]})
    assert len(model._plans) == kept


def test_a_message_is_not_as_long_as_what_it_is_about(service: Service, scorer: Endpoint) -> None:
    """It goes into answers, logs and the diagnostics of an endpoint."""
    answer = score(service, scorer, {"ColumnNames": ["a" * MIB], "Values": [[1]]})
    assert answer.status == 400
    assert len(answer.body) < 20_000


def test_the_same_query_is_remembered_if_it_is_short() -> None:
    """Of a long one nothing is kept."""
    assert query_values("a=1") is query_values("a=1")
    long = "a=" + "1" * 1000
    assert query_values(long) is not query_values(long)


def test_a_parameter_is_no_document() -> None:
    """A value of a parameter has some letters."""
    parameter = Parameter("Where", "rows.location")
    assert parameter.value("a" * 1000) == "a" * 1000
    with pytest.raises(RequestRejected, match="over 16384 letters"):
        parameter.value("a" * 20_000)


@pytest.mark.slow
def test_a_blob_has_so_many_blocks() -> None:
    """More are refused while the list is read."""
    ids = b"<Latest>AAAA</Latest>"
    assert len(read_block_list(b"<BlockList>%s</BlockList>" % (ids * MAX_BLOCKS))) == MAX_BLOCKS
    with pytest.raises(StorageError, match="50000 blocks"):
        read_block_list(b"<BlockList>%s</BlockList>" % (ids * (MAX_BLOCKS + 1)))
