"""Parts of what keeps models, by themselves: what is kept of a file's own words, where one comes from again, and when
the janitor looks.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.server.clock import system_clock
from airflow_provider_azureml_classic.server.models import janitor as janitor_module
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.janitor import INTERVAL, VAULT_INTERVAL, Janitor
from airflow_provider_azureml_classic.server.models.origins import Origins
from airflow_provider_azureml_classic.server.storage.http import PATCH_SECONDS
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE


def manifest(**members: Any) -> Any:
    """What a model file says of itself."""
    usual = {
        "metrics": {"AUC": 0.5},
        "rows": 7,
        "window": ("2026-03-01", "2026-03-02"),
        "created": "2026-03-03T01:00:00Z",
    }
    return SimpleNamespace(**{**usual, **members})


def test_what_is_kept_of_a_model_file() -> None:
    """Its digest, rows, window, time and metrics."""
    row = model_row(manifest(), "d", 9, "c")
    assert (row.digest, row.length, row.rows, row.content, row.metrics) == ("d", 9, 7, "c", {"AUC": 0.5})
    assert (row.window_start, row.window_end) == (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    assert row.created_at == datetime(2026, 3, 3, 1, tzinfo=UTC)


def test_a_model_file_cannot_say_just_anything() -> None:
    """It comes from whoever trained it: only finite numbers and times are kept, and not many."""
    odd = {"a": None, "b": float("nan"), "c": float("inf"), "d": True, "e": "1", "f": 2, "x" * 65: 1.5, "g": 10**400}
    row = model_row(manifest(metrics=odd, rows="7", window=None, created=5), "d", 9, "c")
    assert row.metrics == {"f": 2.0, "x" * 64: 1.5}
    assert type(row.metrics["f"]) is float
    assert (row.rows, row.window_start, row.window_end, row.created_at) == (0, None, None, None)
    many = model_row(manifest(metrics={f"m{n}": float(n) for n in range(33)}, created="soon"), "d", 9, "c")
    assert list(many.metrics) == [f"m{n}" for n in range(32)]
    assert many.created_at is None
    # What no float, no column of a database and no day in UTC can be.
    huge = model_row(manifest(rows=1 << 63, window=("0001-01-01T00:00:00+01:00", "2026-03-02")), "d", 9, "c")
    assert (huge.rows, huge.window_start, huge.window_end) == (0, None, datetime(2026, 3, 2, tzinfo=UTC))
    assert [model_row(manifest(rows=rows), "d", 9, "c").rows for rows in (-1, True, (1 << 53) - 1)] == [0, 0, 2**53 - 1]


@pytest.mark.parametrize(
    ("rows", "kept"), [(-1, 0), (0, 0), (1, 1), ((1 << 53) - 1, (1 << 53) - 1), (1 << 53, 0), (True, 0)]
)
def test_how_many_rows_are_believed(rows: int, kept: int) -> None:
    """Numbers that every client reads as they are."""
    assert model_row(manifest(rows=rows), "d", 9, "c").rows == kept


class Places:
    """Places by location: a content, or an error; what is asked is noted."""

    def __init__(self, **places: bytes | AzureMLClassicError) -> None:
        self.places, self.asked = places, list[Any]()

    def origins(self, digest: str, most: int) -> list[BlobReference]:
        """All of them."""
        self.asked.append((digest, most))
        return [BlobReference(name) for name in self.places]

    def resolve(self, scope: Any, reference: BlobReference) -> Any:
        """A place that writes its content."""
        assert scope is WHOLE_STORE

        def fetch(target: Path, seconds: float) -> None:
            assert seconds == PATCH_SECONDS
            content = self.places[reference.location]
            if isinstance(content, AzureMLClassicError):
                raise content
            target.write_bytes(content)

        return SimpleNamespace(fetch=fetch)


DIGEST = hashlib.sha256(b"model").hexdigest()
GONE = rejection("BlobNotFound", "gone")


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"a": b"model"}, None),
        ({"a": b"other", "b": GONE, "c": b"model"}, None),
        ({"a": b"other"}, "'a' holds another model now"),
        ({"a": b"other", "b": GONE}, "gone"),
        ({}, "It is not known where it came from"),
    ],
)
def test_a_model_comes_from_where_it_came(tmp_path: Path, places: Any, words: str | None) -> None:
    """The first place that still has it; else the error tells of the last one."""
    known = Places(**places)
    fetch: Any = Origins(known, known)  # type: ignore[arg-type]
    if words is None:
        fetch(DIGEST, tmp_path / "m")
        assert (tmp_path / "m").read_bytes() == b"model"
    else:
        with pytest.raises(AzureMLClassicError, match=words) as caught:
            fetch(DIGEST, tmp_path / "m")
        assert caught.value.detail_code == "BlobNotFound"
    assert known.asked == [(DIGEST, 10)]


class Journal:
    """Stands for all that a janitor works on; every call is noted."""

    def __init__(self, *, digests: tuple[set[str], ...] = (set(),), vault: bool = False) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._digests = list(digests)
        self.living, self.vault = {"me"}, SimpleNamespace(clean=self._note("vault.clean")) if vault else None
        self.store: Any = SimpleNamespace(digests=lambda: {"used"}, digests_in_place=lambda: {"in place"})
        self.models: Any = SimpleNamespace(
            vault=self.vault,
            clean=self._note("models.clean"),
            digests=lambda: self._digests.pop(0) if len(self._digests) > 1 else self._digests[0],
            empty_trash=self._note("empty_trash"),
            mend=self._note("mend"),
            remove="remove",
        )
        self.blobs: Any = SimpleNamespace(clean=self._note("blobs.clean"))
        self.pins: Any = SimpleNamespace(remove_unused=self._note("remove_unused"))
        self.peers: Any = SimpleNamespace(living=self.living)

    def _note(self, name: str) -> Callable[..., bool]:
        return lambda *given: bool(self.calls.append((name, *given))) or True

    def janitor(self, *, whole: bool = True) -> Janitor:
        """Who cleans."""
        return Janitor(self.store, self.models, self.blobs, self.pins, self.peers, lambda: whole)

    def names(self) -> list[str]:
        """What was called since the last time."""
        names = [call[0] for call in self.calls]
        self.calls.clear()
        return names


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the janitor sees, of a machine that was just started."""
    seconds = [0.0]
    clock = SimpleNamespace(monotonic=lambda: seconds[0], time=lambda: 5e9)
    monkeypatch.setattr(janitor_module, "time", clock)
    return seconds


EACH, MINUTE = ["blobs.clean", "models.clean"], ["empty_trash", "mend"]


def test_when_the_janitor_looks(now: list[float]) -> None:
    """Half-written files each time; models once a minute; the vault once an hour, and not at the start."""
    journal = Journal(vault=True)
    cleaner = journal.janitor()
    cleaner.clean()
    assert journal.calls == [
        ("blobs.clean", {"me"}),
        ("models.clean", {"me"}),
        ("empty_trash", 5e9),
        ("mend", {"in place"}),
    ]
    journal.calls.clear()
    for later, expected in (
        (INTERVAL - 1, EACH),
        (INTERVAL, EACH + MINUTE),
        (INTERVAL + 1, EACH),
        (VAULT_INTERVAL - 1, EACH + MINUTE),
        (VAULT_INTERVAL, [*EACH, "vault.clean"]),
        (VAULT_INTERVAL + 1, EACH),
        (2 * VAULT_INTERVAL, [*EACH, *MINUTE, "vault.clean"]),
    ):
        now[0] = later
        cleaner.clean()
        assert journal.names() == expected, later
    now[0] += VAULT_INTERVAL
    cleaner.clean()
    assert abs((journal.calls[-1][2] - system_clock()).total_seconds()) < 600
    assert journal.calls[-1][:2] == ("vault.clean", {"used"})


def test_without_a_vault_there_is_none_to_clean(now: list[float]) -> None:
    """However late it is."""
    journal = Journal()
    cleaner = journal.janitor()
    now[0] += 9 * VAULT_INTERVAL
    cleaner.clean()
    assert journal.names() == EACH + MINUTE


def test_nothing_is_cleaned_where_the_pair_is_not_whole(now: list[float]) -> None:
    """Neither files nor models."""
    journal = Journal()
    journal.janitor(whole=False).clean()
    assert journal.calls == []


def test_a_model_is_removed_at_the_second_look(now: list[float]) -> None:
    """If both found it in no endpoint."""
    journal = Journal(digests=({"used", "a", "b"}, {"used", "b", "c"}, {"used", "c"}))
    cleaner = journal.janitor()
    removed = []
    for _ in range(3):
        cleaner.clean()
        removed.append([call[1:] for call in journal.calls if call[0] == "remove_unused"])
        journal.calls.clear()
        now[0] += INTERVAL
    assert removed == [[], [("b", "remove")], [("c", "remove")]]


def test_the_janitor_cleans_in_the_background_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself again and again, whatever went wrong before, and not before it is started."""
    monkeypatch.setattr(janitor_module, "INTERVAL", 0.01)
    journal, rounds, enough = Journal(), list[int](), threading.Event()

    def clean(living: object) -> None:
        rounds.append(1)
        if len(rounds) < 3:
            raise (GONE, RuntimeError("unforeseen"))[len(rounds) - 1]
        enough.set()

    journal.blobs.clean = clean
    janitor = journal.janitor()
    assert not rounds
    janitor.start()
    assert enough.wait(20)
    janitor.close()
    assert not janitor._thread.is_alive()


def test_a_death_wakes_the_janitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dead server left is removed at once."""
    monkeypatch.setattr(janitor_module, "INTERVAL", 3600.0)
    journal, cleaned = Journal(), threading.Event()
    journal.blobs.clean = lambda living: cleaned.set()
    janitor = journal.janitor()
    janitor.start()
    janitor.wake()
    assert cleaned.wait(20)
    janitor.close()
    assert not janitor._thread.is_alive()
