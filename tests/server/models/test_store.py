"""The store of models by itself, with contents in place of models: what is kept, loaded, removed, and written again."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.server.models import store as store_module
from airflow_provider_azureml_classic.server.models.store import (
    DAMAGED,
    MEND_AGAIN,
    MISSING,
    TRASH,
    TRASH_SECONDS,
    ModelStore,
)

GONE = rejection("ResourceDownload", "it is gone")
INVALID = b"no model"


def digest_of(content: bytes) -> str:
    """Its SHA-256."""
    return sha256(content).hexdigest()


A, B, C = (digest_of(content) for content in (b"a", b"b", b"c"))


class Loaded:
    """Stands for a loaded model: its content, and as many bytes as that has letters."""

    def __init__(self, content: bytes, again: object = None) -> None:
        self.content, self.again = content, again
        self.digest, self.size = digest_of(content), len(content)
        self.problem, self.at_once, self.slimmed = None, content != b"slow", 0

    @classmethod
    def load(cls, source: Path | bytes, again: object) -> Loaded:
        """From a file or its content."""
        content = source if isinstance(source, bytes) else source.read_bytes()
        if content == INVALID:
            raise rejection("ModelInvalid", "It is none.")
        return cls(content, again)

    def slim(self) -> bool:
        """Nothing can be saved."""
        self.slimmed += 1
        return False


class Vault:
    """Stands for a storage account's models; what is asked of it is noted."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {digest_of(content): content for content in contents}
        self.calls: list[tuple[Any, ...]] = []

    def put(self, digest: str, source: Path, *, anew: bool = False) -> None:
        """Keep a file."""
        self.calls.append(("put", digest, anew))
        self.contents[digest] = source.read_bytes()

    def fetch(self, digest: str, target: Path) -> None:
        """Give a file."""
        self.calls.append(("fetch", digest))
        if digest not in self.contents:
            raise GONE
        target.write_bytes(self.contents[digest])

    def digests(self) -> set[str]:
        """All."""
        self.calls.append(("digests",))
        return set(self.contents)


class Shop:
    """A store and what stands around it.

    :param root: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.whole, self.tried = root, True, list[Path]()
        self.trash = root / TRASH

    def store(self, *contents: bytes, vault: Vault | None = None, memory: int = 1 << 30) -> ModelStore:
        """The store, with files of some contents."""
        made: Any = vault
        store = ModelStore(
            self.root, lambda: "me", memory=memory, vault=made, trial=self.tried.append, whole=lambda: self.whole
        )
        for content in contents:
            store.path(digest_of(content)).write_bytes(content)
        return store

    def source(self, content: bytes) -> Path:
        """A file of somebody's."""
        path = self.root.parent / "source"
        path.write_bytes(content)
        return path

    def names(self) -> set[str]:
        """What is in the folder, the trash aside."""
        return {path.name for path in self.root.iterdir()} - {TRASH}


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """An empty one."""
    monkeypatch.setattr(store_module, "Scorer", Loaded)
    return Shop(tmp_path / "below" / "models")


def refused(code: str, words: str) -> Any:
    """An error of the service with a code and words."""
    return pytest.raises(AzureMLClassicError, match=words, check=lambda error: error.detail_code == code)  # type: ignore[call-overload]


# -- put in place and loaded -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", [True, False])
def test_a_model_that_is_put_is_tried_pinned_kept_and_loaded(shop: Shop, load: bool) -> None:
    """In this order, and in the vault as well; it is loaded only where calls come."""
    vault, pinned = Vault(), list[Any]()
    store, source = shop.store(vault=vault), shop.source(b"a")
    scorer: Any = store.put(source, lambda digest: pinned.append((digest, shop.names(), list(shop.tried))), load=load)
    assert pinned == [(A, set(), [source])]
    assert (scorer.content, scorer.again) == (b"a", store.file)
    assert (store.file(A).read_bytes(), source.exists()) == (b"a", True)
    assert vault.calls == [("put", A, False)]
    assert (store.is_loaded(A), store.loaded, store.loaded_bytes) == (load, int(load), int(load))
    assert shop.names() == {f"{A}.ilearner"}


def test_a_model_is_loaded_by_default(shop: Shop) -> None:
    """Whoever does not say otherwise."""
    store = shop.store(b"b")
    store.put(shop.source(b"a"), lambda _: None)
    store.scorer(B)
    assert (store.is_loaded(A), store.is_loaded(B)) == (True, True)


@pytest.mark.parametrize(("there", "written"), [(b"a", False), (b"damaged", True), (None, True)])
def test_a_file_is_written_only_where_it_is_not_whole(shop: Shop, there: bytes | None, written: bool) -> None:
    """One that is there with its content stays the same file."""
    store = shop.store()
    if there is not None:
        store.path(A).write_bytes(there)
        before = store.path(A).stat().st_ino
    store.put(shop.source(b"a"), lambda _: None)
    assert store.path(A).read_bytes() == b"a"
    assert (there is None or store.path(A).stat().st_ino != before) is written
    assert store.broken([A]) == {}


def test_nothing_is_put_into_a_folder_that_was_replaced(shop: Shop) -> None:
    """It is another server's; nothing is even tried."""
    store, shop.whole = shop.store(), False
    with refused("NoMoreResources", "was replaced. Try again"):
        store.put(shop.source(b"a"), lambda _: None)
    assert (shop.tried, shop.names()) == ([], set())
    with pytest.raises(OSError, match="was replaced"):
        store.check_writable()


def test_a_loaded_model_needs_no_file(shop: Shop) -> None:
    """It is the same one for every call; one that is not kept is read each time."""
    store = shop.store(b"a", b"b")
    first: Any = store.scorer(A)
    assert (first.content, first.again) == (b"a", store.file)
    store.path(A).unlink()
    assert store.scorer(A) is first
    assert store.scorer(B, load=False) is not store.scorer(B, load=False)
    assert (store.is_loaded(A), store.is_loaded(B), store.loaded) == (True, False, 1)


def test_a_stored_model_that_cannot_be_used_is_a_fault_of_the_service(shop: Shop) -> None:
    """Named with its digest and the reason; of one that is put the caller hears the reason."""
    store = shop.store(INVALID)
    with refused("ResourceLoadFailed", f"The endpoint's model {digest_of(INVALID)}: It is none."):
        store.scorer(digest_of(INVALID))
    with refused("ModelInvalid", "It is none."):
        store.put(shop.source(INVALID), lambda _: None)


def test_a_model_that_is_here_is_tried_by_its_file(shop: Shop) -> None:
    """Before it is put in place again."""
    store = shop.store(b"a")
    store.check(A)
    assert shop.tried == [store.path(A)]


def test_which_models_answer_at_once(shop: Shop) -> None:
    """Those that are loaded and fast."""
    slow = digest_of(b"slow")
    store = shop.store(b"a", b"b", b"slow")
    for digest in (A, slow):
        store.scorer(digest)
    assert [store.answers_at_once(digest) for digest in (A, B, slow)] == [True, False, False]


def test_a_model_that_is_asked_is_the_last_to_go(shop: Shop) -> None:
    """Of three that have room for two, the one that was not asked for longest."""
    store = shop.store(b"a", b"b", b"c", memory=2)
    for digest in (A, B, A, C):
        store.scorer(digest)
    assert [store.is_loaded(digest) for digest in (A, B, C)] == [True, False, True]
    assert (store.loaded, store.loaded_bytes) == (2, 2)


def test_a_model_is_asked_to_take_less_once(shop: Shop) -> None:
    """Not at every call, where it is too large and has not changed."""
    store = shop.store(b"large", memory=1)
    scorers: list[Any] = [store.scorer(digest_of(b"large")) for _ in range(3)]
    assert scorers[0].slimmed == 1


def test_by_default_a_store_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For models of many megabytes, and nobody need say who it belongs to."""
    monkeypatch.setattr(store_module, "Scorer", Loaded)
    store = ModelStore(tmp_path)
    for content in (b"a" * 1_000_000, b"b" * 1_000_000):
        store.path(digest_of(content)).write_bytes(content)
        store.scorer(digest_of(content))
    assert store.loaded == 2
    store.check(digest_of(b"a" * 1_000_000))
    store.check_writable()
    store.put(store.path(digest_of(b"b" * 1_000_000)), lambda _: None)


# -- files -------------------------------------------------------------------------------------------------------------


def test_half_a_file_is_never_in_place(shop: Shop) -> None:
    """While it is written it has the server's name; what is not its content leaves what was there, and nothing else."""
    store, seen = shop.store(), list[set[str]]()

    def origin(digest: str, path: Path) -> None:
        path.write_bytes(b"other")
        seen.append(shop.names())

    store.path(A).write_bytes(b"damaged")
    store.origin = origin
    with refused("ResourceLoadFailed", f"The file of the model {A} was changed or damaged"):
        store.file(A)
    (hidden,) = seen[0] - {f"{A}.ilearner"}
    assert hidden.startswith(".me-")
    assert shop.names() == {f"{A}.ilearner"}
    assert store.path(A).read_bytes() == b"damaged"


def test_looking_whether_a_file_can_be_written_leaves_none(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clean-up at that moment takes it for one that is being written."""
    store, unlink = shop.store(), Path.unlink

    def cleaned(path: Path, **more: bool) -> None:
        monkeypatch.setattr(Path, "unlink", unlink)
        store.clean(lambda: {"me"})
        assert shop.names() == {path.name}
        assert path.read_bytes()
        path.unlink(**more)

    monkeypatch.setattr(Path, "unlink", cleaned)
    store.check_writable()
    assert shop.names() == set()
    shop.root.rmdir()
    with pytest.raises(FileNotFoundError):
        store.check_writable()


def test_where_models_are_known_to_be(shop: Shop) -> None:
    """In the folder, in the trash, in the vault; other files and folders are no models."""
    store = shop.store(b"a")
    assert store.everywhere() == {A}
    for path in (shop.root / "notes.txt", shop.root / ".me-0123", shop.trash / "0123", shop.trash / f"{B}.ilearner"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert (store.digests(), store.everywhere()) == ({A}, {A, B})
    assert shop.store(vault=Vault(b"c")).everywhere() == {A, B, C}


@pytest.mark.parametrize(
    ("vault", "asked", "kept", "calls"),
    [
        (None, {A, C}, {A}, []),
        (Vault(b"b", b"x"), {A, B, C}, {A, B}, [("digests",)]),
        (Vault(b"b"), {A}, {A}, []),
    ],
)
def test_which_models_are_kept(shop: Shop, vault: Vault, asked: set[str], kept: set[str], calls: Any) -> None:
    """Here, or in the vault, which is asked only for what is not here."""
    assert shop.store(b"a", vault=vault).kept(asked) == kept
    assert (vault.calls if vault else []) == calls


def test_a_removed_file_waits_from_then_on(shop: Shop) -> None:
    """However old it is; for a day, in which it is taken back if it is needed. What is not there is removed already."""
    store = shop.store(b"a")
    os.utime(store.path(A), (0, 0))
    before = time.time()
    for digest in (A, A, B):
        store.remove(digest)
    (thrown,) = shop.trash.iterdir()
    removed = thrown.stat().st_mtime
    assert removed >= before - 1
    store.empty_trash(removed + TRASH_SECONDS)
    assert thrown.exists()
    assert store.file(A) == store.path(A)
    assert not thrown.exists()
    store.remove(A)
    store.empty_trash(thrown.stat().st_mtime + TRASH_SECONDS + 1)
    assert list(shop.trash.iterdir()) == []


def test_two_servers_empty_a_trash(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other one has removed meanwhile is gone."""
    store = shop.store(b"a", b"b")
    for digest in (A, B):
        store.remove(digest)

    def remove(path: Path) -> None:
        for thrown in shop.trash.iterdir():
            thrown.unlink()

    monkeypatch.setattr(store_module.files, "remove", remove)
    store.empty_trash(1e12)
    assert list(shop.trash.iterdir()) == []


def test_a_store_without_a_trash_has_none_to_empty(shop: Shop) -> None:
    """Nor is one made."""
    shop.store().empty_trash(1e12)
    assert not shop.trash.exists()


def test_what_a_clean_up_removes(shop: Shop) -> None:
    """Half-written files of servers that are gone: not of those that live, of a name that only begins alike, or of one
    that came while it looked; neither models nor the trash. Another server may be faster.
    """
    store = shop.store(b"a", b"b")
    store.remove(B)
    for name in (".me-1", ".men-1", ".away-1", ".gone-1", ".other-1"):
        (shop.root / name).touch()

    def living() -> set[str]:
        (shop.root / ".new-1").touch()
        (shop.root / ".away-1").unlink()
        return {"me", "other"}

    store.clean(living)
    assert shop.names() == {f"{A}.ilearner", ".me-1", ".other-1", ".new-1"}
    assert shop.trash.exists()


def test_a_folder_that_somebody_hid_there_hinders_no_clean_up(shop: Shop) -> None:
    """As file systems keep one for their snapshots: it is not ours, and stays."""
    store = shop.store()
    (shop.root / ".snapshot").mkdir()
    (shop.root / ".gone-1").touch()
    store.clean(set)
    assert shop.names() == {".snapshot"}


def test_models_in_place_go_to_a_new_vault(shop: Shop) -> None:
    """Those that are here and not there."""
    vault = Vault(b"b")
    shop.store(b"a", b"b", b"c", vault=vault).fill_vault({A, B, digest_of(b"elsewhere")})
    assert [call for call in vault.calls if call[0] == "put"] == [("put", A, False)]
    shop.store().fill_vault({A})


# -- missing and damaged -----------------------------------------------------------------------------------------------


def test_what_is_read_is_compared_with_its_name(shop: Shop) -> None:
    """A damaged file is named until it is whole again, by whoever looks; of models that nobody has nothing is told."""
    store = shop.store(b"a", b"b", b"c")
    store.path(A).write_bytes(b"x")
    store.path(B).unlink()
    assert [store.is_kept(digest) for digest in (A, B, C)] == [False, False, True]
    assert store.broken([A, B, C]) == {A: DAMAGED, B: MISSING}
    assert store.broken([C]) == {}
    store.path(A).write_bytes(b"a")
    store.path(B).write_bytes(b"b")
    assert store.broken([A, B, C]) == {}


def test_a_model_in_use_that_is_nowhere_lacks_before_anybody_reads_it(shop: Shop) -> None:
    """Unless a vault or the trash has it, or the folder itself is away."""
    store = shop.store(b"a", b"b")
    store.remove(B)
    assert store.broken([A, B, C]) == {C: MISSING}
    assert shop.store(vault=Vault()).broken([A, B, C]) == {}
    shop.root.rename(shop.root.with_name("away"))
    assert store.broken([A, B]) == {A: MISSING, B: MISSING}


def test_a_few_damaged_files_are_read_anew_at_each_question(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not all of them: the question is asked every few seconds."""
    monkeypatch.setattr(store_module, "_LOOKED_AT", 1)
    store = shop.store(b"a", b"b")
    for content in (b"a", b"b"):
        store.path(digest_of(content)).write_bytes(b"x")
        store.is_kept(digest_of(content))
        store.path(digest_of(content)).write_bytes(content)
    assert store.broken([A, B]) == {B: DAMAGED}
    assert store.broken([A, B]) == {}


def same_times(path: Path, content: bytes) -> None:
    """Other bytes, in a file that looks the same from outside."""
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    "read",
    [lambda store, _: store.mend([A]), lambda store, _: store.scorer(A), lambda store, b: store.put(b, lambda _: None)],
    ids=["mended", "called", "put"],
)
def test_a_file_that_did_not_change_is_not_read_again(shop: Shop, read: Callable[[ModelStore, Path], object]) -> None:
    """Once a minute all are looked at; whoever wants its content reads it, and finds what nobody could see."""
    store = shop.store(b"a")
    store.origin = lambda digest, path: path.write_bytes(b"a")
    read(store, shop.source(b"a"))
    same_times(store.path(A), b"x")
    store.mend([A])
    assert store.path(A).read_bytes() == b"x"
    assert store.file(A).read_bytes() == b"a"
    same_times(store.path(A), b"y")
    store.mend([A])
    assert store.path(A).read_bytes() == b"y"
    store.path(A).write_bytes(b"longer")
    store.mend([A])
    assert store.path(A).read_bytes() == b"a"


def test_a_damaged_file_is_not_believed_later(shop: Shop) -> None:
    """Even where it looks as it did while it was whole."""
    store = shop.store(b"a")
    store.mend([A])
    same_times(store.path(A), b"x")
    assert not store.is_kept(A)
    store.origin = lambda digest, path: path.write_bytes(b"a")
    store.mend([A])
    assert store.path(A).read_bytes() == b"a"


def test_what_is_remembered_of_models_ends_with_their_use(shop: Shop) -> None:
    """So that it does not grow for ever."""
    store = shop.store(b"a", b"b")
    store.path(B).write_bytes(b"x")
    store.mend([A, B])
    assert (set(store._sound), set(store._broken), set(store._tried)) == ({A}, {B}, {B})
    store.mend([])
    assert (store._sound, store._broken, store._tried) == ({}, {}, {})


def test_one_that_cannot_be_mended_does_not_hinder_the_others(shop: Shop) -> None:
    """Each is tried; with a vault only those that are here and damaged: the others come when they are needed."""
    store = shop.store()
    store.origin = lambda digest, path: path.write_bytes(b"c")
    store.mend([A, B, C])
    assert shop.names() == {f"{C}.ilearner"}
    vault = Vault(b"a", b"c")
    store = shop.store(vault=vault)
    store.path(C).write_bytes(b"x")
    store.mend([A, C])
    assert vault.calls == [("fetch", C)]
    assert shop.names() == {f"{C}.ilearner"}


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.EIO, errno.EMFILE])
def test_a_file_that_cannot_be_read_is_damaged(shop: Shop, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Unless it is nothing of its own, as too many open files."""
    store, opened = shop.store(b"a"), store_module.open_file

    def fail(path: Path) -> object:
        if path == store.path(A):
            raise OSError(number, "the disk")
        return opened(path)

    monkeypatch.setattr(store_module, "open_file", fail)
    if number == errno.EMFILE:
        for ask in (store.is_kept, store.scorer):
            with pytest.raises(OSError, match="the disk"):
                ask(A)
    else:
        assert store.is_kept(A) is False
        assert store.broken([A]) == {A: DAMAGED}


def test_a_call_reads_a_file_that_is_written_again(shop: Shop) -> None:
    """From where it came, whether it is missing or damaged; the vault gets it anew."""
    vault = Vault()
    store = shop.store(vault=vault)
    store.origin = lambda digest, path: path.write_bytes({A: b"a", B: b"b"}[digest])
    store.path(B).write_bytes(b"x")
    for digest, content in ((A, b"a"), (B, b"b")):
        scorer: Any = store.scorer(digest)
        assert scorer.content == content
        assert store.path(digest).read_bytes() == content
    assert vault.calls == [("fetch", A), ("put", A, True), ("fetch", B), ("put", B, True)]
    assert store.broken([A, B]) == {}


def test_a_vault_gives_what_is_not_here(shop: Shop) -> None:
    """And is not asked for the rest; where nobody else can be asked, its own words say why it does not."""
    vault = Vault(b"b")
    store = shop.store(b"a", vault=vault)
    assert (store.is_kept(A), store.is_kept(B)) == (True, True)
    assert vault.calls == [("fetch", B)]
    assert store.file(B).read_bytes() == b"b"
    with refused("ResourceDownload", "^it is gone"):
        store.is_kept(C)
    store.origin = lambda digest, path: path.write_bytes(b"c")
    assert store.is_kept(C) is False
    assert store.file(C).read_bytes() == b"c"


@pytest.mark.parametrize("there", [b"x", None])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(None, "It is not known where it came from."), (GONE, "it is gone"), (OSError(28, "No space"), "No space")],
)
def test_why_a_file_cannot_be_fetched_again(
    shop: Shop, there: bytes | None, error: Exception | None, reason: str
) -> None:
    """What is the matter, why it stays so, and what to do."""

    def origin(digest: str, path: Path) -> None:
        assert error is not None
        raise error

    store = shop.store()
    store.origin = origin if error else None
    if there:
        store.path(A).write_bytes(there)
    what = DAMAGED if there else MISSING
    words = f"The file of the model {A} is {what}, and cannot be fetched again: {reason} PATCH the endpoint"
    with refused("ResourceLoadFailed", words):
        store.file(A)


def test_a_file_that_could_not_be_fetched_is_not_asked_for_at_once_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are told so meanwhile, one at a time tries, and one that came is forgotten: it may be lost again."""
    now, asked = [0.0], list[float]()
    monkeypatch.setattr(store_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = shop.store()

    def origin(digest: str, path: Path) -> None:
        asked.append(now[0])
        with refused("ResourceLoadFailed", f"The file of the model {A} is missing and is being fetched again. PATCH"):
            store.file(A)
        if now[0] == 0.0:
            raise GONE
        path.write_bytes(b"a")

    store.origin = origin
    for later, words in ((0.0, "it is gone"), (MEND_AGAIN - 0.5, "is being fetched again"), (MEND_AGAIN, None)):
        now[0] = later
        if words:
            with refused("ResourceLoadFailed", words):
                store.file(A)
        else:
            store.file(A)
    store.path(A).unlink()
    store.file(A)
    assert asked == [0.0, MEND_AGAIN, MEND_AGAIN]


@pytest.mark.parametrize(
    "write", [lambda store, source: store.put(source, lambda _: None), lambda store, _: store.file(A)]
)
def test_a_folder_in_a_files_place_is_put_away(shop: Shop, write: Callable[[ModelStore, Path], object]) -> None:
    """It waits in the trash from now on, with what somebody put into it."""
    store = shop.store()
    store.origin = lambda digest, path: path.write_bytes(b"a")
    store.path(A).mkdir()
    (store.path(A) / "somebody's").touch()
    os.utime(store.path(A), (0, 0))
    write(store, shop.source(b"a"))
    assert store.path(A).read_bytes() == b"a"
    (folder,) = shop.trash.iterdir()
    assert folder.stat().st_mtime > 1e9
    assert [path.name for path in folder.iterdir()] == ["somebody's"]
