"""Proof that an update is live."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target
from airflow_provider_azureml_classic.retraining.proof import Level, Patch, as_expected, shows


def endpoint(location: BlobReference | None, **members: Any) -> Endpoint:
    """An endpoint with one resource."""
    return Endpoint("e", resources=(Resource("m", location),), **members)


LIVE = BlobReference("c/new.ilearner", "http://own/")


@pytest.mark.parametrize(
    ("live", "put", "shown"),
    [
        (LIVE, LIVE, True),
        (LIVE, BlobReference("c/new.ilearner", "http://OWN"), True),
        (LIVE, BlobReference("c/new.ilearner"), True),
        (LIVE, BlobReference("c/old.ilearner", "http://own/"), False),
        (LIVE, BlobReference("c/new.ilearner", "http://other/"), False),
        (None, LIVE, False),
    ],
)
def test_shows(live: BlobReference | None, put: BlobReference, shown: bool) -> None:
    """An endpoint shows a model if it names its place; a bare path is compared by path."""
    assert shows(endpoint(live), "m", put) is shown


def test_shows_another_resource() -> None:
    """A resource that is gone is an error, not a proof."""
    with pytest.raises(RequestRejected):
        shows(endpoint(LIVE), "other", LIVE)


@pytest.mark.parametrize(
    ("after", "moved"), [({"version": "1"}, False), ({"version": "2"}, True), ({"version": "1", "etag": "2"}, True)]
)
def test_has_moved(after: dict[str, str], moved: bool) -> None:
    """A changed version or ``ETag`` is a move."""
    assert Patch("m", LIVE, version="1").has_moved(endpoint(LIVE, **after)) is moved


@pytest.mark.parametrize(
    ("end", "own", "is_own"), [("20260301", "01", True), ("20260302", "01", False), ("none", "01", True)]
)
def test_has_window(end: str, own: str, is_own: bool) -> None:
    """The same file of a newer window was put live by somebody else; a window that is not known tells nothing."""
    live = BlobReference(f"c/{end}T000000Z.ilearner", "http://own/")
    assert Patch("m", live, window_end=f"2026-03-{own}T00:00:00+00:00").has_window(endpoint(live)) is is_own
    assert Patch("m", live).has_window(endpoint(live))


def test_levels_are_spelled_as_users_write_them() -> None:
    """The levels are what the operator's parameter takes."""
    assert [level.value for level in Level] == ["resource", "version", "score", "content"]


def test_a_patch_survives() -> None:
    """What is kept before a PATCH is read by the attempt that goes on with the proof."""
    patch = Patch("m", LIVE, version="1", answers=Table(("a",), [["1"]]))
    kept = patch.to_json()
    assert Patch.from_json(kept) == patch
    del kept["location"]
    for data in (kept, {**patch.to_json(), "location": 3}):
        with pytest.raises(ValueError, match=r"The state of the update cannot be read: its members are \['answers'"):
            Patch.from_json(data)


def test_a_place_that_is_used_again_replaces_another_model() -> None:
    """An update that went to the place of the model it replaced counts as sent once the endpoint has its model."""
    one, other = Digests("1" * 64, "a" * 64), Digests("2" * 64, "b" * 64)
    patch = Patch("m", LIVE, replaced=LIVE, model=other, replaced_model=one)
    taken_up = []
    for digests in (one, other):
        resource = Resource("m", LIVE, digests=digests)
        target = Target(WebService("1", "s"), Endpoint("e", resources=(resource,)), resource)
        taken_up.append(target.earlier(patch, Candidate(LIVE, None, digests=other)) is patch)
    assert taken_up == [False, True]


WHOLE = Patch(
    "m",
    LIVE,
    Level.SCORE,
    BlobReference("c/old.ilearner", "http://own/"),
    Table(("a",), [["1"]]),
    "1",
    "2",
    3.5,
    4.5,
    True,
    "2026-03-01",
    Digests("1" * 64, "a" * 64),
    Digests("2" * 64, "b" * 64),
    "2026-02-01",
    {"text": "x"},
)


def test_every_member_of_a_patch_survives() -> None:
    """As plain JSON, by names that an attempt of another version reads; without tokens."""
    kept = json.loads(json.dumps(WHOLE.to_json()))
    assert Patch.from_json(kept) == WHOLE
    assert kept == {
        "resource": "m",
        "location": ["http://own/", "c/new.ilearner"],
        "level": "score",
        "replaced": ["http://own/", "c/old.ilearner"],
        "answers": {"ColumnNames": ["a"], "Values": [["1"]]},
        "version": "1",
        "etag": "2",
        "patched_at": 3.5,
        "deadline": 4.5,
        "failed": True,
        "window_end": "2026-03-01",
        "model": {"sha256": "1" * 64, "content": "a" * 64},
        "replaced_model": {"sha256": "2" * 64, "content": "b" * 64},
        "replaced_end": "2026-02-01",
        "rehearsal": {"text": "x"},
    }
    earlier = ("window_end", "model", "replaced_model", "replaced_end", "rehearsal")
    of_version_0_1 = {name: value for name, value in kept.items() if name not in earlier}
    assert Patch.from_json(of_version_0_1) == replace(WHOLE, **dict.fromkeys(earlier))
    bare = Patch("m", LIVE)
    assert Patch.from_json(bare.to_json()) == bare
    assert bare.level is Level.RESOURCE
    for member in set(kept) - set(earlier):
        with pytest.raises(ValueError, match="cannot be read"):
            Patch.from_json({name: value for name, value in kept.items() if name != member})


def test_answers_that_a_user_expects() -> None:
    """All rows, in order, in the columns that are named; numbers nearly; or whatever a function finds."""
    answers = [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}]
    assert as_expected(None, answers, 0.0)
    assert as_expected([{"a": 1.005}, {"b": "y"}], answers, 0.01)
    for wrong in ([{"a": 1.02}, {}], [{}, {"b": "x"}], [{}], [{}, {}, {}], [{"c": 1}, {}]):
        assert not as_expected(wrong, answers, 0.01)
    seen: list[Any] = []
    assert as_expected(lambda rows: seen.append(rows) or 1, answers, 0.0) is True
    assert as_expected(lambda _: [], answers, 0.0) is False
    assert seen == [answers]
    seen[0][0]["a"] = 9
    assert answers[0]["a"] == 1.0


@pytest.mark.parametrize(
    ("patch", "after", "words"),
    [
        (Patch("m", LIVE, version="1"), {"version": "1"}, None),
        (Patch("m", LIVE, Level.VERSION, version="1"), {"version": "1"}, "its version is still 1."),
        (Patch("m", LIVE, Level.VERSION, version="1"), {"version": "2"}, None),
        # An ETag would have moved; without one, the version need not.
        (
            Patch("m", LIVE, Level.SCORE, version="1", etag="5"),
            {"version": "1", "etag": "5"},
            "its version is still 1.",
        ),
        (Patch("m", LIVE, Level.SCORE, version="1"), {"version": "1"}, None),
        (Patch("m", LIVE, version="1", etag="5"), {"version": "1", "etag": "5"}, None),
        (Patch("m", BlobReference("c/x.ilearner"), version="1"), {}, "it still names http://own/c/new.ilearner as its"),
    ],
)
def test_what_is_missing(patch: Patch, after: dict[str, str], words: str | None) -> None:
    """By level of proof."""
    missing = patch.missing(endpoint(LIVE, **after))
    assert (missing is None) is (words is None)
    assert words is None or (missing or "").startswith(words)


def test_other_resources_do_not_count() -> None:
    """Of several the one that was updated is looked at."""
    digests = Digests("1" * 64, "a" * 64)
    row = Endpoint("e", resources=(Resource("q", BlobReference("c/q.ilearner")), Resource("m", LIVE, digests=digests)))
    assert Patch("m", LIVE, Level.CONTENT, model=digests, version="1").missing(row) is None
    assert "it still names http://own/c/new.ilearner" in (Patch("m", BlobReference("c/x.ilearner")).missing(row) or "")
    assert Patch("m", LIVE, window_end="2026-03-01T00:00:00+00:00").has_window(row)
