"""What is no model file is named as what it is, and limits are where they are said to be."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol import model_file
from airflow_provider_azureml_classic.protocol.model_file import open_model

#: An end of a zip in the graph is not that of the file.
GRAPH = b"\x08\x08 a graph with PK\x05\x06 in it"


def zipped(*, members: int = 2, version: int = 2, graph: bytes = GRAPH, **manifest: Any) -> bytes:
    """A model file, with so many members."""
    value = {"format": version, "sha256": hashlib.sha256(graph).hexdigest(), **manifest}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.json", json.dumps({k: v for k, v in value.items() if v is not None}))
        archive.writestr("model.onnx", graph)
        for number in range(members - 2):
            archive.writestr(f"more{number}", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"<html><p>Sign in", "an HTML page"),
        (b"\xef\xbb\xbf\r\n\t <HEAD>", "an HTML page"),
        (b"<!doctype HTML>", "an HTML page"),
        (b"\xef\xbb\xbf<?xml", "an XML document"),
        (b"<p>", "of an unknown kind"),
        (b" {}", "a JSON document"),
        (b"[1]", "a JSON document"),
        *((f"\x80{chr(protocol)}".encode("latin-1"), "a Python pickle") for protocol in range(2, 6)),
        (b"\x80\x06", "of an unknown kind"),
        (b"\x1f\x8b", "a gzip file"),
        (b"BZh", "a bzip2 file"),
        (b"\x89HDF", "an HDF5 file"),
        (b"PAR1", "a Parquet file"),
        (b"PK\x05\x06", "an empty zip"),
        (b"\x08", "a bare ONNX graph"),
        (b"a,b\n1,2\n", "a CSV"),
        (b"a;b\n\xfc;2\n", "a CSV"),
        (b"a\tb", "a CSV"),
        (b"X{}", "of an unknown kind"),
        (b"a\n1,2\n", "of an unknown kind"),
        (b"\xfc,b\n1,2\n", "of an unknown kind"),
        (b"a,b\n\0", "of an unknown kind"),
        (b"X,b", "a CSV"),
        (b"123456789", r"of an unknown kind \(it begins with b'12345678'\)"),
        (b"PK\x03\x04PK\x05\x06" + bytes(18), r"a zip with 0 members \(none\)"),
        (
            zipped(members=6).replace(b"manifest.json", b"manifest_json"),
            r"a zip with 6 members \(manifest_json, model.onnx, more0, ",
        ),
        (zipped(version=1, members=3), "a zip with 3 members, where its format has 2"),
        (zipped(version=3), "its format is 3; this server reads 1 and 2"),
        (zipped(sha256="0" * 64), "model.onnx has SHA-256 [0-9a-f]{64}, the manifest says 0000"),
        (zipped(experiment="\ud800"), "manifest.json is not a manifest"),
        (zipped(**{"\udfff": 1}), "manifest.json is not a manifest"),
        (zipped(sha256=None), r"manifest\.json is not a manifest \(KeyError: 'sha256'\)"),
        (zipped().replace(b'"sha256"', b'"sha257"'), "zip is damaged or cut short"),
        (zipped(members=17), "a zip with many members"),
    ],
)
def test_what_it_is_instead(content: bytes, what: str) -> None:
    """By its first bytes or its members, whatever stands before them in texts."""
    with pytest.raises(RequestRejected, match=f"This is not a trained model: (it is |the |)?{what}") as caught:
        open_model(content)
    assert caught.value.detail_code == "ModelInvalid"


def test_members_that_are_not_known() -> None:
    """A later version may add some; sixteen are looked at."""
    for members in (2, 16):
        model = open_model(zipped(members=members))
        assert (model.graph, model.manifest["format"], model.profile) == (GRAPH, 2, None)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many bytes as are allowed, and not one more: of the file, and of the graph in it."""
    content = zipped()
    monkeypatch.setattr(model_file, "FILE_LIMIT", len(content))
    monkeypatch.setitem(model_file.EXPANDED, model_file.MODEL, (len(GRAPH), 0, 1 << 30))
    assert open_model(content).graph == GRAPH
    monkeypatch.setitem(model_file.EXPANDED, model_file.MODEL, (len(GRAPH) - 1, 0, 1 << 30))
    with pytest.raises(RequestRejected, match=r"model\.onnx expands to more than"):
        open_model(content)
    monkeypatch.setattr(model_file, "FILE_LIMIT", len(content) - 1)
    with pytest.raises(RequestRejected, match=f"it has more than {len(content) - 1} bytes"):
        open_model(content)


def test_a_file_is_read_up_to_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may grow, or be endless."""
    monkeypatch.setattr(model_file, "FILE_LIMIT", 100)
    sizes = []

    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size)
            return bytes(min(size or 1000, 1000))

    path: Any = SimpleNamespace(open=lambda _: Endless())
    with pytest.raises(RequestRejected, match="it has more than 100 bytes"):
        open_model(path)
    assert sizes == [101]
