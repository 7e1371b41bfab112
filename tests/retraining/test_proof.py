"""Proof that an update is live."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target
from airflow_provider_azureml_classic.retraining.proof import Level, Patch, shows


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
