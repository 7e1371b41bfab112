"""What was answered survives a loss of power: bytes and names are on the disk before."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs.blocks import BlockStage
from airflow_provider_azureml_classic.server.blobs.store import BlobStore
from airflow_provider_azureml_classic.server.folders import file_digest, make_folder, sync, write_private
from airflow_provider_azureml_classic.server.models import store as models
from airflow_provider_azureml_classic.server.models.store import ModelStore

BLOCK = base64.b64encode(b"block-1").decode()


class Disk:
    """Records what is only in memory: bytes of files that were moved, and names that were given or taken.

    :param patch: puts it between the code and the system.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.unwritten: list[str] = []
        self._files: set[int] = set()
        self._names: dict[int, list[str]] = {}
        for name in ("replace", "rename", "link", "unlink", "mkdir", "fsync"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))

    @property
    def lost(self) -> list[str]:
        """What a loss of power would take now."""
        return [*self.unwritten, *(name for names in self._names.values() for name in names)]

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **more: Any) -> Any:
            if name == "fsync":
                inode = os.fstat(arguments[0]).st_ino
                self._files.add(inode)
                self._names.pop(inode, None)
            elif name in ("replace", "rename", "link") and os.stat(arguments[0]).st_ino not in self._files:
                self.unwritten.append(f"what is in {arguments[1]} is there")
            result = call(*arguments, **more)
            if name != "fsync" and "dir_fd" not in more:
                for path in map(Path, arguments[: 1 if name in ("unlink", "mkdir") else 2]):
                    self._note(path)
            return result

        return watched

    def _note(self, path: Path) -> None:
        # What is half written is nobody's yet, and what is in a grave nobody's any more.
        if not any(part.startswith((".tmp", ".s-")) for part in path.parts):
            kind = "is there" if path.exists() else "is gone"
            self._names.setdefault(path.parent.stat().st_ino, []).append(f"{path.name} {kind}")


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """A store with a blob ``data/old/a.csv``."""
    made = BlobStore(tmp_path / "store", StorageAccount("mlclassic", "a2V5", "http://127.0.0.1/mlclassic"))
    put(made, "old/a.csv")
    return made


def put(store: BlobStore, blob: str, **more: Any) -> None:
    """Write a blob."""
    with store.open_write("data", blob, **more) as writer:
        writer.write(b"data")


def committed(store: BlobStore, folder: Path) -> None:
    """A finished file becomes a blob."""
    (folder / "finished").write_bytes(b"data")
    store.commit_file("data", "x/y/z.csv", folder / "finished")


def in_blocks(store: BlobStore, folder: Path) -> None:
    """A blob is put together from a block."""
    with BlockStage(store).open_block("data", "b.bin", BLOCK) as writer:
        writer.write(b"data")
    BlockStage(store).commit("data", "b.bin", [("Latest", BLOCK)], max_length=100)


WRITES: dict[str, Callable[[BlobStore, Path], object]] = {
    "a blob": lambda store, _: put(store, "x/y/z.csv"),
    "a blob that is replaced": lambda store, _: put(store, "old/a.csv"),
    "a new blob only": lambda store, _: put(store, "new.csv", overwrite=False),
    "a blob with notes": lambda store, _: put(store, "x.csv", notes={"headers": {"x-ms-meta-a": "b"}}),
    "metadata": lambda store, _: store.set_headers("data", "old/a.csv", lambda *_: {"x-ms-meta-a": "b"}),
    "a finished file": committed,
    "blocks": in_blocks,
    "a deletion": lambda store, _: store.delete("data", "old/a.csv"),
    "a container": lambda store, _: store.create_container("more"),
    "no container": lambda store, _: store.delete_container("data"),
    "an id": lambda _, folder: write_private(folder / "database.json", "{}"),
    "a new id": lambda _, folder: write_private(folder / "database.json", "{}", overwrite=False),
    "a folder": lambda _, folder: make_folder(folder / "a" / "b" / "c"),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_is_answered_is_on_the_disk(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its bytes before it has its name, its name before the answer."""
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        WRITES[what](store, tmp_path)
        lost = disk.lost
    assert [name for name in lost if name.endswith("is there") or name in ("a.csv is gone", "data is gone")] == []


def test_models_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When they are put in place, when they go to the trash, and when they come back."""
    source = tmp_path / "model"
    source.write_bytes(b"model")
    digest = file_digest(source)
    with monkeypatch.context() as patch:
        disk, store = Disk(patch), ModelStore(tmp_path / "models", lambda: "s")
        store._write(digest, lambda temporary: temporary.write_bytes(b"model"))
        store.remove(digest)
        assert (tmp_path / "models" / models.TRASH / store.path(digest).name).exists()
        assert store.file(digest).exists()
        assert [name for name in disk.lost if name.endswith("is there")] == []


@contextmanager
def failing(patch: pytest.MonkeyPatch, error: OSError) -> Iterator[None]:
    """A disk that cannot be forced to anything."""

    def fail(_: int) -> None:
        raise error

    with patch.context() as inner:
        inner.setattr(os, "fsync", fail)
        yield


def test_systems_without_it_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems cannot force a folder; a disk that fails is an error all the same."""
    with failing(monkeypatch, OSError(22, "Invalid argument")):
        sync(tmp_path)
    with failing(monkeypatch, OSError(5, "Input/output error")), pytest.raises(OSError, match="Input/output"):
        sync(tmp_path)
