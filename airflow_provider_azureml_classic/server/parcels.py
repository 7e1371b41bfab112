"""Work on files, sent to a machine that shares no disk with the server.

A path among the arguments of the work is a file: one that is there is sent along, one that is not yet there is brought
back. Contents travel compressed, inside the task: data that is laid down on one worker is lost when that one dies.
"""

from __future__ import annotations

import platform
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection

#: Largest size of what one piece of work sends or brings back, compressed, in bytes.
MAX_PARCEL = 1 << 30
_DISTRIBUTION = "airflow-provider-azureml-classic"
# CSV shrinks to a fifth at the fastest level already.
_LEVEL = 1


@dataclass(frozen=True)
class File:
    """A file among the arguments of a piece of work.

    :param name: its name, which its extension is read from.
    :param content: compressed; ``None`` for one that the work writes.
    """

    name: str
    content: bytes | None = field(repr=False)


@dataclass(frozen=True)
class Parcel:
    """A piece of work on its way.

    :param function: what to call; a function of this package, which the worker has too.
    :param arguments: with what; a :class:`File` in place of each path.
    :param versions: of the sender.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = field(repr=False)
    versions: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """What must be the same on both sides, or a model may come out differently, or not be understood."""
    from airflow_provider_azureml_classic.server.experiments import conversion

    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, _DISTRIBUTION: metadata.version(_DISTRIBUTION), **conversion.versions()}


def pack(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Parcel:
    """A piece of work with the files that it reads.

    :param function: what to call.
    :param arguments: with what.
    :raises RequestRejected: ``OutOfMemoryLimit``: the files are larger than :data:`MAX_PARCEL`.
    """
    packed, size = [], 0
    for argument in arguments:
        if isinstance(argument, Path):
            content = zlib.compress(argument.read_bytes(), _LEVEL) if argument.exists() else None
            size += len(content or b"")
            argument = File(argument.name, content)
        packed.append(argument)
    if size > MAX_PARCEL:
        raise rejection(
            "OutOfMemoryLimit",
            f"The data has {size} bytes when compressed; at most {MAX_PARCEL} are sent to another machine. Send fewer "
            "rows or columns, or start the server without --scheduler.",
        )
    return Parcel(function, tuple(packed), versions())


def carry_out(parcel: Parcel) -> tuple[Any, dict[int, bytes]]:
    """Do the work; called on the other machine.

    :param parcel: the work.
    :return: what the function returned, and the files that it wrote: position of the argument -> content, compressed.
    :raises RequestRejected: this machine's libraries are not those of the sender.
    """
    _check(parcel.versions)
    with TemporaryDirectory(prefix="azureml-classic-") as folder:
        arguments, written = [], {}
        for number, argument in enumerate(parcel.arguments):
            if isinstance(argument, File):
                path = Path(folder) / str(number) / argument.name
                path.parent.mkdir()
                if argument.content is None:
                    written[number] = path
                else:
                    path.write_bytes(zlib.decompress(argument.content))
                argument = path
            arguments.append(argument)
        result = parcel.function(*arguments)
        return result, {
            number: zlib.compress(path.read_bytes(), _LEVEL) for number, path in written.items() if path.exists()
        }


def _check(wanted: dict[str, str]) -> None:
    here = versions()
    other = [
        f"{name} {here.get(name)} instead of {version}" for name, version in wanted.items() if here[name] != version
    ]
    if other:
        raise rejection(
            "OperationNotSupported",
            f"The Dask worker on {platform.node()} has {', '.join(other)}: install the same versions there as on the "
            "server, then submit again.",
        )


def unpack(arguments: tuple[Any, ...], written: dict[int, bytes]) -> None:
    """Put the files that were brought back where the caller wants them.

    :param arguments: as given to :func:`pack`.
    :param written: as returned by :func:`carry_out`.
    """
    for number, content in written.items():
        arguments[number].write_bytes(zlib.decompress(content))
