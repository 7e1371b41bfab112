"""Model files: a round trip, and everything that is not a model file refused in words that help."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol import model_file
from airflow_provider_azureml_classic.server.experiments import Column, Manifest, Schema, ilearner
from airflow_provider_azureml_classic.server.experiments import read_ilearner as read
from airflow_provider_azureml_classic.server.experiments import write_ilearner as write
from airflow_provider_azureml_classic.server.experiments.ilearner import content_digest

#: Threads that are the first to read a manifest, in a process whose threads take turns as often as they can.
FIRST_READERS = """
import importlib, json, sys, threading
from airflow_provider_azureml_classic.server.experiments import ilearner

value = json.load(sys.stdin)
sys.setswitchinterval(1e-6)
for _ in range(100):
    fresh, start = importlib.reload(ilearner), threading.Barrier(6)
    threads = [threading.Thread(target=lambda: (start.wait(), fresh.Manifest.from_json(value))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""
GRAPH = b"\x08\x08 an onnx graph"


def manifest(graph: bytes = GRAPH) -> Manifest:
    """A complete manifest."""
    columns = (Column("age", "number", minimum=17.0, maximum=90.0), Column("sex", "string", ("F", "M")))
    return Manifest(
        experiment="Census Model",
        task="classification",
        schema=Schema(columns, "income", "classification", ("no", "yes"), ("sex",), ("", "?")),
        metrics={"Accuracy": 0.9, "AUC": None},
        rows=10,
        window=("2016-01-01", "2016-03-01"),
        created="2016-03-01T00:00:00.000+00:00",
        versions={"scikit-learn": "1.9.1"},
        sha256=hashlib.sha256(graph).hexdigest(),
        positive="yes",
        probabilities=True,
    )


@pytest.fixture
def model(tmp_path):
    """A valid model file."""
    path = tmp_path / "m.ilearner"
    write(path, GRAPH, manifest())
    return path


def zipped(**members: bytes) -> bytes:
    """A zip with these members, ``_`` in a name standing for a dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def manifest_json(**changes: object) -> bytes:
    """The manifest with some members changed."""
    return json.dumps({**manifest().to_json(), **changes}).encode()


def test_what_is_written_is_read_back(model):
    """Manifest and graph survive the round trip through a file and through bytes."""
    assert read(model) == (manifest(), GRAPH)
    assert read(model.read_bytes()) == (manifest(), GRAPH)


def test_the_same_model_gives_the_same_bytes(model, tmp_path):
    """A file says nothing about when it was zipped, so equal models have equal checksums."""
    digest, length = write(tmp_path / "again.ilearner", GRAPH, manifest())
    content = model.read_bytes()
    assert (tmp_path / "again.ilearner").read_bytes() == content
    assert (digest, length) == (hashlib.sha256(content).hexdigest(), len(content))


def test_a_failed_write_leaves_no_file(tmp_path, monkeypatch):
    """A reader never finds half a model, nor a temporary file."""
    monkeypatch.setattr(ilearner.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "m.ilearner", GRAPH, manifest())
    assert list(tmp_path.iterdir()) == []


class Explodes:
    """Unpickling this would fail the test."""

    def __reduce__(self):
        return pytest.fail, ("a model file was unpickled",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is an empty file"),
        (pickle.dumps(Explodes()), "it is a Python pickle"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "it is an HTML page"),
        (b'\n <?xml version="1.0"?><Error><Code>BlobNotFound</Code></Error>', "it is an XML document"),
        (b'{"error": {}}', "it is a JSON document"),
        (b"age,income\n39,<=50K\n", "it is a CSV"),
        (b"\x1f\x8b\x08\x00", "it is a gzip file"),
        (GRAPH, "a bare ONNX graph"),
        (b"\xfa\xfb\xfc", "of an unknown kind"),
        (zipped(), "an empty zip"),
        (zipped(model_onnx=GRAPH), "a zip with 1 members (model.onnx)"),
        (zipped(model_onnx=GRAPH, manifest_json=manifest_json(), setup_py=b""), "a zip with 3 members"),
        (zipped(model_onnx=GRAPH, manifest_json=b"[]"), "manifest.json is not a manifest"),
        (zipped(model_onnx=GRAPH, manifest_json=b"{}"), "manifest.json is not a manifest"),
        (zipped(model_onnx=GRAPH, manifest_json=b"\xff"), "manifest.json is not a manifest"),
        (zipped(model_onnx=GRAPH, manifest_json=manifest_json(format=3)), "its format is 3; this server reads 1 and 2"),
        (zipped(model_onnx=b"another", manifest_json=manifest_json()), "the manifest says"),
    ],
)
def test_what_is_no_model_is_named(content, said):
    """Each kind of wrong file is refused as ModelInvalid, said by its name, with what was expected."""
    with pytest.raises(RequestRejected, match=r"Expected an \.ilearner file") as caught:
        read(content)
    assert caught.value.detail_code == "ModelInvalid"
    assert said in caught.value.message


def shifted() -> Manifest:
    """A manifest with more than readers of format 1 know."""
    return replace(manifest(), schema=manifest().schema.shifted({"age": 40.0}, 1.7e9))


def test_format_1_is_written_where_nothing_needs_more(model):
    """Its members are those of the first version, which refuses any other: in the manifest, the schema, a column."""
    with zipfile.ZipFile(model) as archive:
        assert sorted(archive.namelist()) == ["manifest.json", "model.onnx"]
        value = json.loads(archive.read("manifest.json"))
    assert value["format"] == 1
    assert sorted(value) == [
        *("created", "experiment", "format", "metrics", "positive", "probabilities", "rows", "schema", "sha256"),
        *("task", "versions", "window"),
    ]
    assert sorted(value["schema"]) == ["classes", "features", "label", "missing", "optional", "task"]
    assert sorted(value["schema"]["features"][0]) == ["categories", "kind", "maximum", "minimum", "name"]


def test_what_a_reader_must_know_makes_it_format_2(tmp_path):
    """Offsets, or a kind of column that the first version does not know: it refuses the file by its format."""
    write(tmp_path / "m.ilearner", GRAPH, shifted())
    read_back, _ = read(tmp_path / "m.ilearner")
    assert (read_back, read_back.format) == (shifted(), 2)
    assert read_back.schema.offsets == (40.0, 0.0)
    date = replace(manifest().schema, features=(Column("day", "date"),))
    assert replace(manifest(), schema=date).format == 2


def test_later_versions_may_add_members():
    """Members that are not known are passed over: of the manifest, the schema, a column, and the zip."""
    value = shifted().to_json()
    value["schema"]["features"][0]["unit"] = "years"
    value["schema"]["origin"] = {"a": [1]}
    content = zipped(
        model_onnx=GRAPH, manifest_json=json.dumps({**value, "surprise": 1}).encode(), licence_txt=bytes(9 << 20)
    )
    assert read(content) == (shifted(), GRAPH)


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": []},
        {"metrics": {"a": "x"}},
        {"rows": "many"},
        {"created": 5},
        {"versions": None},
        {"window": {"0": 1}},
        {"positive": ["x"]},
        {"experiment": ["a"]},
        {"schema": {**manifest().to_json()["schema"], "missing": [["a"]]}},
        {"schema": {**manifest().to_json()["schema"], "label": 1}},
        {"schema": {**manifest().to_json()["schema"], "kinds": {"a": 1}}},
    ],
    ids=str,
)
def test_members_of_another_type_are_refused(changes: dict[str, object]) -> None:
    """Not only where they are read: pages and lists show them to everybody."""
    with pytest.raises(RequestRejected, match="is not a manifest"):
        read(zipped(manifest_json=manifest_json(**changes), model_onnx=GRAPH))


def test_a_profile_is_kept_beside_the_manifest(tmp_path):
    """In the comment of the zip, which readers of the first version pass over."""
    profiled = replace(manifest(), profile={"rows": 10, "columns": {"é": {"missing": 0.5}}})
    write(tmp_path / "m.ilearner", GRAPH, profiled)
    assert read(tmp_path / "m.ilearner") == (profiled, GRAPH)
    assert "profile" not in profiled.to_json()


@pytest.mark.parametrize(
    "comment",
    [b"", b"made by somebody", b"[]", b'{"profile": 1}', b'{"profile": {"\\ud800": 1}}', b"\xff", b"[" * 60_000],
)
def test_a_comment_that_is_no_profile_is_none(model, comment):
    """Any tool may have written it."""
    with zipfile.ZipFile(model, "a") as archive:
        archive.comment = comment
    assert read(model)[0].profile is None


def test_the_digest_of_the_content_is_that_of_graph_and_schema():
    """When and with what a model was made does not matter, what it answers does."""
    digest = content_digest(manifest(), GRAPH)
    assert content_digest(replace(manifest(), created="later", versions={}, metrics={}, rows=11), GRAPH) == digest
    others = [
        content_digest(manifest(), GRAPH + b"!"),
        content_digest(shifted(), GRAPH),
        content_digest(replace(manifest(), positive="no"), GRAPH),
    ]
    assert len({digest, *others}) == 4


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_model_is_refused(model, share):
    """A download that was cut short is told as such."""
    content = model.read_bytes()
    with pytest.raises(RequestRejected, match="damaged or cut short"):
        read(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    "changed", [lambda file: file[:-1], lambda file: file[:-40], lambda file: file + b"\0", lambda file: file + file]
)
def test_a_file_ends_where_its_zip_ends(tmp_path, changed):
    """Neither cut in the profile, which is the last of a file, nor with anything behind it."""
    path = tmp_path / "m.ilearner"
    write(path, GRAPH, replace(manifest(), profile={"rows": 10, "columns": {"income": {"missing": 0.5}}}))
    with pytest.raises(RequestRejected, match="damaged or cut short"):
        read(changed(path.read_bytes()))


def test_a_flipped_bit_is_refused(model):
    """Damage inside a member is found."""
    content = bytearray(model.read_bytes())
    content[content.index(b"model.onnx") + 12] ^= 1
    with pytest.raises(RequestRejected, match=r"damaged|SHA-256"):
        read(bytes(content))


def test_a_zip_bomb_is_not_expanded(monkeypatch):
    """Expansion stops at so many bytes for each that a member has in the file, and a larger claim is believed."""
    monkeypatch.setitem(model_file.EXPANDED, model_file.MODEL, (1 << 20, 64, 1 << 30))
    for member, content in (("model.onnx", bytes(8 << 20)), ("manifest.json", b" " * (8 << 20))):
        members = {"manifest.json": manifest_json(), "model.onnx": b"", member: content}
        with pytest.raises(RequestRejected, match=f"{member} expands to more than"):
            read(zipped(**members))


def test_zeros_are_expanded_as_far_as_models_have_them(monkeypatch):
    """A table of neighbours has many: what expands to some dozen times its size is read."""
    monkeypatch.setitem(model_file.EXPANDED, model_file.MODEL, (0, 64, 1 << 30))
    noise = b"".join(hashlib.sha512(bytes([number])).digest() for number in range(32))
    graph = noise + bytes(40 * len(noise))
    content = zipped(manifest_json=json.dumps(manifest(graph).to_json()).encode(), model_onnx=graph)
    assert read(content)[1] == graph


def test_a_zip_of_many_members_is_not_listed():
    """Each would be an object."""
    with pytest.raises(RequestRejected, match="many members"):
        read(zipped(**{f"member{number}": b"" for number in range(100)}))


def test_a_bomb_that_lies_about_its_size_is_refused(monkeypatch):
    """A header that claims a small size does not get a large member through."""
    monkeypatch.setitem(model_file.EXPANDED, model_file.MODEL, (0, 0, 1 << 21))
    honest = (8 << 20).to_bytes(4, "little")
    content = zipped(manifest_json=manifest_json(), model_onnx=bytes(8 << 20)).replace(honest, b"\x10\0\0\0")
    with pytest.raises(RequestRejected) as caught:
        read(content)
    assert caught.value.detail_code == "ModelInvalid"


def test_a_file_over_the_limit_is_not_read(model, monkeypatch):
    """A file larger than allowed is refused by its size."""
    monkeypatch.setattr(model_file, "FILE_LIMIT", 100)
    with pytest.raises(RequestRejected, match="more than 100 bytes"):
        read(model)


@pytest.mark.slow
def test_the_first_to_read_a_model_may_be_several() -> None:
    """At the first calls after a start several threads read their first models at once, and the server lives."""
    value = json.dumps(manifest().to_json())
    done = subprocess.run(
        [sys.executable, "-c", FIRST_READERS], input=value, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
