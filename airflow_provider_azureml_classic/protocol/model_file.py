"""A trained model file (``.ilearner``), opened: a zip of an ONNX graph and a JSON manifest. Data, never code.

Anybody who may update an endpoint chooses the file, so reading stops at fixed sizes whatever the file claims. What the
manifest means is not decided here: the server makes a :class:`~.ilearner.Manifest` of it, who exports a model takes
its columns.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.messages import check_characters

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


@dataclass(frozen=True)
class ModelFile:
    """What is in a model file.

    :param manifest: the JSON value of the manifest; its ``format`` is one of :data:`FORMATS`.
    :param graph: the ONNX graph; its SHA-256 is that of the manifest.
    :param profile: what the training data looked like; ``None``: not known.
    """

    manifest: Any
    graph: bytes
    profile: dict[str, Any] | None


def open_model(source: Path | bytes) -> ModelFile:
    """Open a model file, and check that it is whole.

    :param source: the file, or its content.
    :raises RequestRejected: ``ModelInvalid``: it is no model file; the message says what it is instead.
    """
    content = source if isinstance(source, bytes) else _limited(source)
    if len(content) > FILE_LIMIT:
        raise invalid(f"it has more than {FILE_LIMIT} bytes")
    if not content.startswith(b"PK\x03\x04"):
        raise invalid(f"it is {_recognized(content)}")
    # Two are right; by chance there are some more in compressed bytes.
    if content.count(b"PK\x01\x02") > _FEW:
        raise invalid("it is a zip with many members")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_whole(archive, content)
            members = _members(archive, len(content))
            profile, more = _profile(archive.comment), len(archive.namelist()) - 2
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise invalid(f"the zip is damaged or cut short ({error})") from None
    manifest, promised = _manifest(members[MANIFEST], more)
    found = hashlib.sha256(members[MODEL]).hexdigest()
    if found != promised:
        raise invalid(f"{MODEL} has SHA-256 {found}, the manifest says {promised}")
    return ModelFile(manifest, members[MODEL], profile)


def _manifest(content: bytes, more: int) -> tuple[Any, Any]:
    """The JSON value of a manifest, and the digest of the graph that it names."""
    try:
        value = json.loads(content)
        check_characters(value)
        version = value["format"]
        if version not in FORMATS:
            raise invalid(f"its format is {version!r}; this server reads {' and '.join(map(str, FORMATS))}")
        if version == 1 and more:
            raise invalid(f"it is a zip with {more + 2} members, where its format has 2")
        return value, value["sha256"]
    except UNREADABLE as error:
        raise unreadable(error) from None


#: What is raised while a manifest is read that is none.
UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)


def unreadable(error: Exception) -> AzureMLClassicError:
    """The error for a manifest that is none.

    :param error: one of :data:`UNREADABLE`.
    """
    return invalid(f"{MANIFEST} is not a manifest ({type(error).__name__}: {error})")


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
        raise invalid(f"it is a zip with {len(names)} members ({', '.join(names[:5]) or 'none'})")
    return {name: _expanded(archive, name, length) for name in (MANIFEST, MODEL)}


def _expanded(archive: zipfile.ZipFile, name: str, length: int) -> bytes:
    free, a_byte, most = EXPANDED[name]
    member = archive.getinfo(name)
    # Both sizes are the file's own claims: a large one is believed, and no more than a small one is read.
    limit = min(most, free + a_byte * min(member.compress_size, length))
    if member.file_size > limit:
        raise invalid(f"{name} expands to more than {limit} bytes")
    return archive.read(member)


def _profile(comment: bytes) -> dict[str, Any] | None:
    """The profile in the comment of a zip; a tool may have written anything else there."""
    try:
        profile = json.loads(comment)["profile"]
        check_characters(profile)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return profile if isinstance(profile, dict) else None


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
    if start.lower().startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page"
    for sign, what in _SIGNS:
        if content.startswith(sign) or start.startswith(sign):
            return what
    line = start.partition(b"\n")[0]
    if line.isascii() and any(mark in line for mark in b",;\t") and b"\0" not in start:
        return "a CSV"
    return f"of an unknown kind (it begins with {content[:8]!r})"


def invalid(found: str) -> AzureMLClassicError:
    """The error for a file that is no model.

    :param found: what it is instead, or what is wrong.
    """
    return rejection(
        "ModelInvalid",
        f"This is not a trained model: {found}. Expected an .ilearner file, as a job of a training web service "
        f"writes it: a zip of {MANIFEST} and {MODEL}.",
    )
