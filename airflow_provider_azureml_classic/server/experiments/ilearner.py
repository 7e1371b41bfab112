"""Trained model files (``.ilearner``): a zip of an ONNX graph and a JSON manifest. Data, never code.

Anybody who may update an endpoint chooses the file, so nothing in it is executed or unpickled; it is opened by
:mod:`~airflow_provider_azureml_classic.protocol.model_file`, which stops at fixed sizes whatever the file claims.

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
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from airflow_provider_azureml_classic.protocol import model_file
from airflow_provider_azureml_classic.protocol.model_file import MANIFEST, MODEL
from airflow_provider_azureml_classic.server.experiments.schema import Schema
from airflow_provider_azureml_classic.server.folders import open_file

#: What the training data looked like, as a JSON object, see :func:`~.profile.profile_of`. Its member ``fitted`` says on
#: how many rows the model was fitted (all of them), of which model the metrics are (of one fitted without the held-out
#: rows, where there are any), and how many rows these are about.
Profile = dict[str, Any]

_EPOCH = (1980, 1, 1, 0, 0, 0)


class _Kind(msgspec.Struct):
    kind: str | None = None
    missing: list[str] | None = None
    decimal: str | None = None
    date_format: str | None = None
    dressed: bool = False


class _Column(msgspec.Struct):
    name: str
    kind: str
    categories: list[str]
    minimum: float | None = None
    maximum: float | None = None
    offset: float = 0.0


class _Schema(msgspec.Struct):
    features: list[_Column]
    label: str
    task: str
    classes: list[str]
    optional: list[str]
    missing: list[str]
    offset: float = 0.0
    kinds: dict[str, _Kind] = {}


class _WithSchema(msgspec.Struct):
    """The types of a schema's members: pages, lists and counts rely on them, whoever wrote the file."""

    schema: _Schema


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
        :raises ValueError: it is none; the message names the member.
        """
        try:
            msgspec.convert(value, _WithSchema)
            known = {**value, "schema": Schema.from_json(value["schema"]), "profile": None}
            return replace(msgspec.convert(known, cls), profile=profile)
        except msgspec.ValidationError as error:
            # Not a ValueError by itself in the older versions of msgspec that are admitted.
            raise ValueError(str(error)) from None


# msgspec looks at a class when it first meets it. Of two threads that do so at once one uses what the other has begun,
# and the process ends (in 0.22): so it meets each here, where the import lets one thread in.
_MET: tuple[Any, ...] = tuple(map(msgspec.json.Decoder, (_WithSchema, Manifest)))


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


def model_content(path: Path) -> bytes:
    """What is in a model file; of one that is too large, one byte more than it may have.

    :param path: of the file.
    :raises OSError: it cannot be read.
    """
    with open_file(path) as file:
        return file.read(model_file.FILE_LIMIT + 1)


def read_ilearner(source: Path | bytes) -> tuple[Manifest, bytes]:
    """Manifest and ONNX graph of a model file, checked.

    :param source: the file, or its content.
    :raises RequestRejected: ``ModelInvalid``: it is no model file; the message says what it is instead.
    """
    opened = model_file.open_model(source if isinstance(source, bytes) else model_content(source))
    try:
        return Manifest.from_json(opened.manifest, opened.profile), opened.graph
    except model_file.UNREADABLE as error:
        raise model_file.unreadable(error) from None
