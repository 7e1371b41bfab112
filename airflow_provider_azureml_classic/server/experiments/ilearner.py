"""Trained model files (``.ilearner``): a zip of an ONNX graph and a JSON manifest. Data, never code.

Anybody who may update an endpoint chooses the file, so nothing in it is executed or unpickled, and reading stops at
fixed sizes whatever the file claims.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments.schema import Schema

FORMAT = 1
MODEL = "model.onnx"
MANIFEST = "manifest.json"

#: Limits in bytes: the file, and its members together once expanded.
FILE_LIMIT = 256 << 20
EXPANDED_LIMIT = 1 << 30

_CHUNK = 1 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Manifest:
    """What a model file says about its model.

    :param experiment: name of the experiment.
    :param task: ``classification`` or ``regression``.
    :param schema: columns with the categories and classes of this training.
    :param metrics: as in the evaluation; ``None`` where a metric is not defined.
    :param rows: number of training rows.
    :param window: first and last time of the training data, if it is dated.
    :param created: time of training, ISO.
    :param versions: of the libraries that made the model.
    :param sha256: of the ONNX graph.
    :param positive: class that *Scored Probabilities* is about, for two classes.
    :param probabilities: whether the model gives probabilities.
    :param format: version of this layout.
    """

    experiment: str
    task: str
    schema: Schema
    metrics: dict[str, float | None]
    rows: int
    window: tuple[str, str] | None
    created: str
    versions: dict[str, str]
    sha256: str
    positive: str | None = None
    probabilities: bool = False
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """The manifest that :meth:`to_json` wrote.

        :param value: a JSON object.
        :raises (KeyError, TypeError): it is none.
        """
        window = value["window"]
        changed = {"schema": Schema.from_json(value["schema"]), "window": (window[0], window[1]) if window else None}
        return cls(**{**value, **changed})


def write_ilearner(path: Path, onnx: bytes, manifest: Manifest) -> tuple[str, int]:
    """Write a model file, all of it or nothing; the same content gives the same bytes.

    :param path: where to.
    :param onnx: the graph.
    :param manifest: its description.
    :returns: SHA-256 and length of the file.
    """
    buffer = io.BytesIO()
    members = {MANIFEST: json.dumps(manifest.to_json(), sort_keys=True, indent=1).encode(), MODEL: onnx}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 6)
    content = buffer.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest(), len(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that other processes see in full or not at all.

    :param path: where to; its folder must exist.
    :param content: what.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_ilearner(source: Path | bytes) -> tuple[Manifest, bytes]:
    """Manifest and ONNX graph of a model file, checked.

    :param source: the file, or its content.
    :raises RequestRejected: ``ModelInvalid``: it is no model file; the message says what it is instead.
    """
    content = source if isinstance(source, bytes) else _limited(source)
    if len(content) > FILE_LIMIT:
        raise _invalid(f"it has {len(content)} bytes; at most {FILE_LIMIT} are read")
    if not content.startswith(b"PK\x03\x04"):
        raise _invalid(f"it is {_recognized(content)}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _members(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _invalid(f"the zip is damaged or cut short ({error})") from None
    manifest = _manifest(members[MANIFEST])
    found = hashlib.sha256(members[MODEL]).hexdigest()
    if found != manifest.sha256:
        raise _invalid(f"{MODEL} has SHA-256 {found}, the manifest says {manifest.sha256}")
    return manifest, members[MODEL]


def _limited(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(FILE_LIMIT + 1)


def _members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    names = sorted(archive.namelist())
    if names != sorted((MANIFEST, MODEL)):
        raise _invalid(f"it is a zip with {len(names)} members ({', '.join(names[:5]) or 'none'})")
    left = EXPANDED_LIMIT
    members = {}
    for name in names:
        members[name] = _expanded(archive, name, left)
        left -= len(members[name])
    return members


def _expanded(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    # The header's size is the file's own claim; only what comes out counts.
    content = bytearray()
    with archive.open(name) as stream:
        while chunk := stream.read(_CHUNK):
            content += chunk
            if len(content) > limit:
                raise _invalid(f"it expands to more than {EXPANDED_LIMIT} bytes")
    return bytes(content)


def _manifest(content: bytes) -> Manifest:
    try:
        value = json.loads(content)
        version = value["format"]
        if version != FORMAT:
            raise _invalid(f"its format is {version!r}; this server reads {FORMAT}")
        return Manifest.from_json(value)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise _invalid(f"{MANIFEST} is not a manifest ({type(error).__name__}: {error})") from None


_SIGNS = (
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"BZh", "a bzip2 file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"PK\x05\x06", "an empty zip"),
    (b"\x08", "a bare ONNX graph or another Protocol Buffers message"),
    (b"<?xml", "an XML document"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
)


def _recognized(content: bytes) -> str:
    if not content:
        return "an empty file"
    start = content[:2048].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:15].lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page"
    for sign, what in _SIGNS:
        if content.startswith(sign) or start.startswith(sign):
            return what
    line = start.split(b"\n", 1)[0]
    if line.isascii() and any(mark in line for mark in b",;\t") and b"\0" not in start:
        return "a CSV"
    return f"of an unknown kind (it begins with {content[:8]!r})"


def _invalid(found: str) -> AzureMLClassicError:
    return rejection(
        "ModelInvalid",
        f"This is not a trained model: {found}. Expected an .ilearner file, as a job of a training web service "
        f"writes it: a zip of {MANIFEST} and {MODEL}.",
    )
