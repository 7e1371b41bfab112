"""The store on disk: names, whole-or-nothing writes, listings, blocks."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.sas import StorageAccount
from airflow_provider_azureml_classic.server.blobs import files as blob_files
from airflow_provider_azureml_classic.server.blobs import store as blobs
from airflow_provider_azureml_classic.server.blobs.blocks import BlockStage
from airflow_provider_azureml_classic.server.blobs.names import check_blob, check_container
from airflow_provider_azureml_classic.server.blobs.store import BLOCKS_FOLDER, TEMPORARY_FOLDER, BlobStore

LIMIT = 1000
FIRST, SECOND = (base64.b64encode(name).decode() for name in (b"block-1", b"block-2"))


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    """An empty store."""
    return BlobStore(tmp_path / "store", StorageAccount("mlclassic", "a2V5", "http://127.0.0.1/mlclassic"))


def put(store: BlobStore, blob: str, data: bytes = b"data", container: str = "data", *, overwrite: bool = True) -> None:
    """Write a blob."""
    with store.open_write(container, blob, overwrite=overwrite) as writer:
        writer.write(data)


def get(store: BlobStore, blob: str) -> bytes:
    """Read a blob."""
    file, _ = store.open_read("data", blob)
    with file:
        return file.read()


def names(store: BlobStore, prefix: str = "") -> list[str]:
    """Names of the blobs in the container."""
    return [blob.name for blob in store.list("data", prefix)]


def stage(store: BlobStore, block_id: str, data: bytes, blob: str = "b.bin") -> None:
    """Stage one block."""
    with BlockStage(store).open_block("data", blob, block_id) as writer:
        writer.write(data)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """A process that lets everybody read by default."""
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)


class TestNames:
    """What may become a path."""

    @pytest.mark.parametrize(
        "blob",
        [
            *("..", "../x", "a/../b", "a/./b", ".", "a/..", "", " ", "a/. /b", "\uf02f", "a\uf05cb"),
            *("a\x00b", "a\nb", "\ud800", "a\uffffb", "x" * 256, "é" * 128),
        ],
    )
    def test_blob_name_is_refused(self, store: BlobStore, blob: str) -> None:
        """Names that leave the container, or that files cannot have, make no path."""
        with pytest.raises(RequestRejected) as caught:
            store.path("data", blob)
        assert caught.value.detail_code == "InputBlobRelativeLocationInvalid"

    @pytest.mark.parametrize("blob", ["a//b", "/etc/passwd", "a/", "a\\b", "..\\x", "C:\\x", "a\\..\\b", "//"])
    def test_empty_parts_and_backslashes_are_kept(self, store: BlobStore, blob: str) -> None:
        """The cloud has such names; on disk they stay inside their container, and are listed as they were written."""
        with store.open_write("odd", blob) as writer:
            writer.write(b"x")
        assert store.path("odd", blob).resolve().is_relative_to(store.root / "odd")
        assert blob in [listed.name for listed in store.list("odd")]
        file, _ = store.open_read("odd", blob)
        with file:
            assert file.read() == b"x"
        store.delete("odd", blob)
        assert not store.exists("odd", blob)

    def test_blob_name_too_long_is_refused(self, store: BlobStore) -> None:
        """Azure's limit of 1,024 characters holds."""
        with pytest.raises(RequestRejected) as caught:
            store.path("data", "/".join(["x" * 200] * 6))
        assert caught.value.detail_code == "BlobNameTooLong"

    @pytest.mark.parametrize(
        "blob", ["a.csv", "a/b c+é.csv", ".hidden", "...x", "2016-03-01T00:00:00+00:00.csv", "con"]
    )
    def test_blob_name_is_allowed(self, blob: str) -> None:
        """Ordinary names, timestamps included, are left alone."""
        assert check_blob(blob, windows=False) == blob

    @pytest.mark.parametrize("blob", ["c:x", "a/nul", "COM1.csv", "a.", "a ", "a?b", "a:stream"])
    def test_windows_gives_more_names_a_meaning(self, blob: str) -> None:
        """Drives, streams, devices and dropped dots are refused where they mean something."""
        with pytest.raises(RequestRejected):
            check_blob(blob, windows=True)

    @pytest.mark.parametrize(
        "container", ["", "ab", "..", ".tmp", ".blocks", "$root", "a_b", "Data", "a/b", "-ab", "x" * 64]
    )
    def test_container_name_is_refused(self, store: BlobStore, container: str) -> None:
        """A container is 3 to 63 lower-case letters, digits and hyphens; the store's own folders are none."""
        with pytest.raises(RequestRejected) as caught:
            store.path(container, "a.csv")
        assert caught.value.detail_code == "ContainerSegmentInvalid"

    def test_container_name_is_allowed(self) -> None:
        """Such a name is returned as it is."""
        assert check_container("experiment--output1") == "experiment--output1"


class TestReadAndWrite:
    """One blob."""

    def test_round_trip(self, store: BlobStore) -> None:
        """What is written is read, with its length, type and checksum."""
        put(store, "in/feb.csv", b"x,y\n1,2\n")
        properties = store.properties("data", "in/feb.csv")
        assert get(store, "in/feb.csv") == b"x,y\n1,2\n"
        assert (properties.length, properties.content_type) == (8, "text/csv")
        assert properties.sha256 == hashlib.sha256(b"x,y\n1,2\n").hexdigest()
        assert store.exists("data", "in/feb.csv")

    def test_failed_write_leaves_the_old_blob(self, store: BlobStore) -> None:
        """An error in the middle changes nothing and leaves no file behind."""
        put(store, "a.csv", b"old")

        def cut_short() -> None:
            with store.open_write("data", "a.csv") as writer:
                writer.write(b"new, but half")
                raise RuntimeError("cut")

        with pytest.raises(RuntimeError, match="cut"):
            cut_short()
        assert get(store, "a.csv") == b"old"
        assert not list((store.root / TEMPORARY_FOLDER).iterdir())

    def test_blob_is_not_seen_before_the_end(self, store: BlobStore) -> None:
        """While it is written it does not exist, and its properties are not known."""
        with store.open_write("data", "a.csv") as writer:
            writer.write(b"half")
            assert not store.exists("data", "a.csv")
            assert not names(store)
            with pytest.raises(RuntimeError, match="not in place"):
                _ = writer.committed
        assert writer.committed == store.properties("data", "a.csv")

    def test_reader_keeps_its_version(self, store: BlobStore) -> None:
        """A blob opened before it is overwritten is read to its end as it was."""
        put(store, "a.csv", b"old")
        file, before = store.open_read("data", "a.csv")
        put(store, "a.csv", b"new")
        with file:
            assert file.read() == b"old"
        after = store.properties("data", "a.csv")
        assert before.etag != after.etag
        assert before.sha256 != after.sha256

    def test_an_etag_tells_nothing_of_other_files(self, store: BlobStore) -> None:
        """It is made with the account's key: the file's number, which counts the files of all, is not read from it."""
        put(store, "a.csv")
        other = BlobStore(store.root, replace(store.account, key="a2V6"))
        assert other.properties("data", "a.csv").etag != store.properties("data", "a.csv").etag

    def test_checksum_is_computed_for_files_put_there_by_hand(self, store: BlobStore) -> None:
        """A file copied into the folder is a blob, and its checksum follows when it changes."""
        store.create_container("data")
        for data in (b"one", b"other"):
            store.path("data", "a.csv").write_bytes(data)
            assert store.properties("data", "a.csv").sha256 == hashlib.sha256(data).hexdigest()
            assert get(store, "a.csv") == data

    def test_file_is_closed_if_it_cannot_be_read(self, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A failing disk leaves no open file behind."""
        put(store, "a.csv")
        opened = []

        def fail(_: BlobStore, __: Path, ___: os.stat_result, file: BinaryIO) -> str:
            opened.append(file)
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(BlobStore, "_digest", fail)
        with pytest.raises(OSError, match="Input/output"):
            store.open_read("data", "a.csv")
        assert [file.closed for file in opened] == [True]

    def test_checksums_remembered_are_limited(self, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """Memory does not grow with the number of blobs, and a forgotten checksum is computed again."""
        monkeypatch.setattr(blobs, "_REMEMBERED_DIGESTS", 2)
        for number in range(5):
            put(store, f"{number}.csv", b"same")
        assert len(store._digests) == 2
        assert store.properties("data", "0.csv").sha256 == hashlib.sha256(b"same").hexdigest()

    def test_no_overwrite(self, store: BlobStore) -> None:
        """``overwrite=False`` keeps what is there, even if it appeared while the new one was written."""

        def overtaken() -> None:
            with store.open_write("data", "a.csv", overwrite=False) as writer:
                writer.write(b"late")
                put(store, "a.csv", b"early")

        with pytest.raises(FileExistsError):
            overtaken()
        assert get(store, "a.csv") == b"early"
        put(store, "b.csv", b"first", overwrite=False)
        assert get(store, "b.csv") == b"first"

    @pytest.mark.skipif(os.name == "nt", reason="modes of files are those of POSIX")
    def test_only_this_user_can_read(self, store: BlobStore, tmp_path: Path) -> None:
        """Files are 0600 and folders 0700, whatever the umask and the source's mode say."""
        source = tmp_path / "model"
        with umask(0o000):
            source.write_bytes(b"model")
            put(store, "a/b/c.csv")
            store.commit_file("data", "m/x.ilearner", source)
            stage(store, FIRST, b"block")
        for path in (store.root, *store.root.rglob("*")):
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path

    def test_blob_and_folder_of_one_name(self, store: BlobStore) -> None:
        """What files cannot represent is refused with a reason, in both orders, and nothing is left behind."""
        put(store, "a/b.csv")
        for blob in ("a", "a/b.csv/c", "a/b.csv/c/d"):
            for overwrite in (True, False):
                with pytest.raises(RequestRejected, match="both a blob and a folder"):
                    put(store, blob, overwrite=overwrite)
        assert names(store) == ["a/b.csv"]
        assert not list((store.root / TEMPORARY_FOLDER).iterdir())

    @pytest.mark.parametrize("blob", ["nope.csv", "a", "a/b.csv/c"])
    def test_missing_blob(self, store: BlobStore, blob: str) -> None:
        """Neither a folder nor a path through a blob is a blob."""
        put(store, "a/b.csv")
        for method in (store.open_read, store.properties, store.delete):
            with pytest.raises(RequestRejected) as caught:
                method("data", blob)
            assert caught.value.detail_code == "BlobNotFound"
        assert not store.exists("data", blob)

    def test_delete_takes_empty_folders_along(self, store: BlobStore) -> None:
        """Afterwards a blob may have the name of a folder that is gone; the container stays."""
        put(store, "a/b/c.csv")
        put(store, "a/d.csv")
        store.delete("data", "a/b/c.csv")
        put(store, "a/b")
        assert names(store) == ["a/b", "a/d.csv"]
        store.delete("data", "a/b")
        store.delete("data", "a/d.csv")
        assert store.container_properties("data") is not None
        assert not list((store.root / "data").iterdir())

    @pytest.mark.slow
    def test_writing_beside_deleting(self, store: BlobStore) -> None:
        """A folder that a delete removes under a writer is made again: no write is lost."""
        stop = threading.Event()

        def delete_all() -> None:
            while not stop.is_set():
                for blob in names(store, "x/"):
                    store.delete("data", blob)

        thread = threading.Thread(target=delete_all, daemon=True)
        thread.start()
        try:
            for number in range(100):
                put(store, f"x/y/z/{number}.csv")
        finally:
            stop.set()
            thread.join()
        put(store, "x/y/z/last.csv")
        assert "x/y/z/last.csv" in names(store)

    def test_writing_gives_up_in_the_end(self, store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder that vanishes every time ends as an error, not as an endless loop."""
        monkeypatch.setattr(blob_files, "make_folder", lambda _: None)
        with pytest.raises(FileNotFoundError):
            put(store, "never/there.csv")

    def test_other_failures_of_the_system_are_not_hidden(
        self, store: BlobStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A blob that is there but may not be deleted is not said to be missing."""
        put(store, "a.csv")

        def forbidden(_: Path) -> None:
            raise PermissionError(errno.EACCES, "not yours")

        monkeypatch.setattr(Path, "unlink", forbidden)
        with pytest.raises(PermissionError):
            store.delete("data", "a.csv")


class TestCommitFile:
    """Files made elsewhere."""

    def test_move(self, store: BlobStore, tmp_path: Path) -> None:
        """The file moves into the store."""
        source = tmp_path / "model"
        source.write_bytes(b"model")
        store.commit_file("data", "m/x.ilearner", source)
        assert get(store, "m/x.ilearner") == b"model"
        assert store.properties("data", "m/x.ilearner").sha256 == hashlib.sha256(b"model").hexdigest()
        assert not source.exists()

    def test_other_file_system(self, store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where a move is impossible the file is copied, and still appears whole."""
        source = tmp_path / "model"
        source.write_bytes(b"model")
        publish = blob_files.publish

        def across(path: Path, target: Path, *, overwrite: bool) -> None:
            if path == source:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            publish(path, target, overwrite=overwrite)

        monkeypatch.setattr(blobs, "publish", across)
        store.commit_file("data", "m/x.ilearner", source)
        assert get(store, "m/x.ilearner") == b"model"
        assert not source.exists()

    def test_refused_move_keeps_the_source(self, store: BlobStore, tmp_path: Path) -> None:
        """With ``overwrite=False`` an existing blob and the file both stay."""
        put(store, "a.csv", b"old")
        source = tmp_path / "new"
        source.write_bytes(b"new")
        with pytest.raises(FileExistsError):
            store.commit_file("data", "a.csv", source, overwrite=False)
        assert get(store, "a.csv") == b"old"
        assert source.read_bytes() == b"new"


def latest(*block_ids: str) -> list[tuple[str, str]]:
    """A list of blocks, wherever they are."""
    return [("Latest", block_id) for block_id in block_ids]


class TestContainers:
    """Containers and listings."""

    def test_life_of_a_container(self, store: BlobStore) -> None:
        """It is made once, is there, and goes with all its blobs."""
        assert store.create_container("data")
        assert not store.create_container("data")
        put(store, "a/b.csv")
        assert store.container_properties("data") is not None
        assert store.delete_container("data")
        assert not store.delete_container("data")
        assert store.container_properties("data") is None
        assert not list((store.root / TEMPORARY_FOLDER).iterdir())

    def test_list(self, store: BlobStore) -> None:
        """Names come in their own order (not that of folders), filtered by prefix; no container, no names."""
        for blob in ("a/2.csv", "a-1.csv", "b/c/d.csv", "a/1.csv"):
            put(store, blob)
        put(store, "x.csv", container="other")
        assert names(store) == ["a-1.csv", "a/1.csv", "a/2.csv", "b/c/d.csv"]
        assert names(store, "a/") == ["a/1.csv", "a/2.csv"]
        assert not list(store.list("missing"))

    def test_list_passes_over_what_is_deleted_meanwhile(self, store: BlobStore) -> None:
        """A blob that goes while the listing is read is left out."""
        for blob in ("1.csv", "2.csv", "3.csv"):
            put(store, blob)
        listing = store.list("data")
        first = next(listing)
        store.delete("data", "2.csv")
        assert [first.name, *(blob.name for blob in listing)] == ["1.csv", "3.csv"]


class TestClean:
    """The start of the server."""

    def test_leftovers_are_removed(self, store: BlobStore) -> None:
        """Temporary files and folders of the dead and blocks of long ago go; all else stays."""
        put(store, "a.csv")
        stage(store, FIRST, b"fresh")
        (store.root / TEMPORARY_FOLDER / "half").write_bytes(b"half")
        (store.root / TEMPORARY_FOLDER / "living-half").write_bytes(b"half")
        (store.root / TEMPORARY_FOLDER / "folder").mkdir()
        old = store.root / BLOCKS_FOLDER / "old"
        old.mkdir()
        (old / "block").write_bytes(b"old")
        os.utime(old, (time.time() - 8 * 24 * 3600,) * 2)
        store.clean(lambda: ["living"])
        assert [path.name for path in (store.root / TEMPORARY_FOLDER).iterdir()] == ["living-half"]
        assert not old.exists()
        assert names(store) == ["a.csv"]
        assert BlockStage(store).commit("data", "b.bin", latest(FIRST), max_length=LIMIT).length == 5


class TestBlocks:
    """Blobs in blocks."""

    def test_commit(self, store: BlobStore) -> None:
        """The blob is the blocks in the order of the list, and the stage is empty afterwards."""
        stage(store, SECOND, b"world")
        stage(store, FIRST, b"wrong")
        stage(store, FIRST, b"hello ")
        assert not names(store)
        properties = BlockStage(store).commit("data", "b.bin", latest(FIRST, SECOND), max_length=LIMIT)
        assert get(store, "b.bin") == b"hello world"
        assert properties == store.properties("data", "b.bin")
        assert not list((store.root / BLOCKS_FOLDER).iterdir())

    def test_missing_block(self, store: BlobStore) -> None:
        """A list with a block that is not staged makes no blob."""
        stage(store, FIRST, b"hello", blob="other.bin")
        with pytest.raises(LookupError):
            BlockStage(store).commit("data", "b.bin", latest(FIRST), max_length=LIMIT)
        assert not names(store)

    def test_too_long(self, store: BlobStore) -> None:
        """The limit holds for the sum of the blocks, however often one is named."""
        stage(store, FIRST, b"x" * 600)
        with pytest.raises(OverflowError):
            BlockStage(store).commit("data", "b.bin", latest(FIRST, FIRST), max_length=LIMIT)
        assert not names(store)

    def test_half_a_block_does_not_count(self, store: BlobStore) -> None:
        """A block cut short is not staged."""

        def cut_short() -> None:
            with BlockStage(store).open_block("data", "b.bin", FIRST) as writer:
                writer.write(b"half")
                raise RuntimeError("cut")

        with pytest.raises(RuntimeError, match="cut"):
            cut_short()
        with pytest.raises(LookupError):
            BlockStage(store).commit("data", "b.bin", latest(FIRST), max_length=LIMIT)

    @pytest.mark.parametrize("block_id", ["", "../x", "not base64", base64.b64encode(b"x" * 65).decode()])
    def test_wrong_id(self, store: BlobStore, block_id: str) -> None:
        """An id that is not Base64 of 1 to 64 bytes is refused before anything is written."""
        with pytest.raises(ValueError, match="block id"):
            stage(store, block_id, b"x")
        with pytest.raises(ValueError, match="block id"):
            BlockStage(store).commit("data", "b.bin", latest(block_id), max_length=LIMIT)

    def test_name_of_the_blob_is_checked(self, store: BlobStore) -> None:
        """A block for a path outside the container is refused."""
        with pytest.raises(RequestRejected):
            stage(store, FIRST, b"x", blob="../x")
