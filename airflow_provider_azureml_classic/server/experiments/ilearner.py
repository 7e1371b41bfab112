"""Trained model files (``.ilearner``): a zip of an ONNX graph and a JSON manifest. Data, never code.

Anybody who may update an endpoint chooses the file, so nothing in it is executed or unpickled, and reading stops at
fixed sizes whatever the file claims.

Two formats. What a reader must know to use the model is in the manifest: where that is more than readers of format 1
know (an offset, another kind of column), the format is 2, and from 2 on readers pass over members that they do not
know, of the manifest and of the zip. Anything else is written as format 1, so that earlier servers read it. What a
reader may know (what the training data looked like) is in the comment of the zip, which all of them pass over.
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
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.experiments.schema import Schema

#: What the training data looked like, as a JSON object, see :func:`~.profile.profile_of`. Its member ``fitted`` says on
#: how many rows the model was fitted (all of them), of which model the metrics are (of one fitted without the held-out
#: rows, where there are any), and how many rows these are about.
Profile = dict[str, Any]

FORMATS = (1, 2)
MODEL = "model.onnx"
MANIFEST = "manifest.json"

#: Limit in bytes of a file.
FILE_LIMIT = 256 << 20
#: Bytes that a member expands to: so many in any case, so many more for each that it has in the file (there may be many
#: zeros in a table of neighbours), and at most so many. Zip allows a thousand for each.
EXPANDED = {MANIFEST: (256 << 10, 64, 32 << 20), MODEL: (64 << 20, 64, 1 << 30)}

_FEW = 16
#: Sign and length in bytes of a zip's end record; the last two bytes are the length of the comment that follows.
_END, _END_LENGTH = b"PK\x05\x06", 22
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
    :param profile: what the training data looked like, see :func:`~.profile.profile_of`; ``None``: not known.
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
    profile: Profile | None = None

    @property
    def format(self) -> int:
        """Version of the layout: the first that says all that a reader must know."""
        return 1 if self.schema.is_of_first_version else 2

    def to_json(self) -> dict[str, Any]:
        """The manifest as a JSON object, without the profile."""
        value = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "profile"}
        return {**value, "schema": self.schema.to_json(), "format": self.format}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], profile: Profile | None = None) -> Manifest:
        """The manifest that :meth:`to_json` wrote, also that of a later version: unknown members are passed over.

        :param value: a JSON object.
        :param profile: of the training data.
        :raises (KeyError, TypeError): it is none.
        """
        window = value["window"]
        changed = {"schema": Schema.from_json(value["schema"]), "window": (window[0], window[1]) if window else None}
        known = {one.name: value[one.name] for one in fields(cls) if one.name in value}
        return cls(**{**known, **changed, "profile": profile})


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
        if manifest.profile is not None:
            archive.comment = json.dumps({"profile": manifest.profile}, separators=(",", ":")).encode()
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED, 6)
    content = buffer.getvalue()
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest(), len(content)


def content_digest(manifest: Manifest, onnx: bytes) -> str:
    """SHA-256 of what a model answers with: its graph and its schema. The same rows trained twice have the same one,
    while that of the file also tells when and with which versions it was made.

    :param manifest: of the model.
    :param onnx: its graph.
    """
    names = ("task", "positive", "probabilities")
    about = {"schema": manifest.schema.to_json(), **{name: getattr(manifest, name) for name in names}}
    head = json.dumps(about, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(hashlib.sha256(head).digest() + hashlib.sha256(onnx).digest()).hexdigest()


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
    # Two are right; by chance there are some more in compressed bytes.
    if content.count(b"PK\x01\x02") > _FEW:
        raise _invalid("it is a zip with many members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_whole(archive, content)
            members = _members(archive, len(content))
            profile, more = _profile(archive.comment), len(archive.namelist()) - 2
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _invalid(f"the zip is damaged or cut short ({error})") from None
    manifest = _manifest(members[MANIFEST], profile, more)
    found = hashlib.sha256(members[MODEL]).hexdigest()
    if found != manifest.sha256:
        raise _invalid(f"{MODEL} has SHA-256 {found}, the manifest says {manifest.sha256}")
    return manifest, members[MODEL]


def _check_whole(archive: zipfile.ZipFile, content: bytes) -> None:
    """Refuse a file that is cut in the comment, or has anything before or behind the zip: zipfile reads them all.

    :param archive: the zip.
    :param content: the file; its end record, found as zipfile finds it, tells the length of the comment.
    :raises BadZipFile: the file does not begin with a member, or does not end with the comment.
    """
    comment = content.rfind(_END) + _END_LENGTH
    end = comment + int.from_bytes(content[comment - 2 : comment], "little")
    start = min((member.header_offset for member in archive.infolist()), default=0)
    if (start, end) != (0, len(content)):
        raise zipfile.BadZipFile(f"it has {len(content)} bytes, of which its end record names {start} to {end}")


def _limited(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(FILE_LIMIT + 1)


def _members(archive: zipfile.ZipFile, length: int) -> dict[str, bytes]:
    names = sorted(archive.namelist())
    if names.count(MANIFEST) != 1 or names.count(MODEL) != 1:
        raise _invalid(f"it is a zip with {len(names)} members ({', '.join(names[:5]) or 'none'})")
    return {name: _expanded(archive, name, length) for name in (MANIFEST, MODEL)}


def _expanded(archive: zipfile.ZipFile, name: str, length: int) -> bytes:
    free, a_byte, most = EXPANDED[name]
    member = archive.getinfo(name)
    # Both sizes are the file's own claims: a large one is believed, and no more than a small one is read.
    limit = min(most, free + a_byte * min(member.compress_size, length))
    if member.file_size > limit:
        raise _invalid(f"{name} expands to more than {limit} bytes")
    return archive.read(member)


def _profile(comment: bytes) -> Profile | None:
    """The profile in the comment of a zip; a tool may have written anything else there."""
    try:
        profile = json.loads(comment)["profile"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return profile if isinstance(profile, dict) else None


def _manifest(content: bytes, profile: Profile | None, more: int) -> Manifest:
    try:
        value = json.loads(content)
        version = value["format"]
        if version not in FORMATS:
            raise _invalid(f"its format is {version!r}; this server reads {' and '.join(map(str, FORMATS))}")
        if version == 1 and more:
            raise _invalid(f"it is a zip with {more + 2} members, where its format has 2")
        return Manifest.from_json(value, profile)
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
    (_END, "an empty zip"),
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
