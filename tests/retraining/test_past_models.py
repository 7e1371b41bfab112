"""Which of the models that an endpoint had is meant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.job_history import MAX_PAGE
from airflow_provider_azureml_classic.protocol.model_history import ModelPage, PastModel
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.freshness import Window
from airflow_provider_azureml_classic.retraining.past_models import Choice, past_candidate, past_models, short
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target
from tests.support.programs import Script

CLIENT: Any = SimpleNamespace()

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def model(number: int, letter: str, day: int, *, live: bool = False, resource: str = "m") -> PastModel:
    """An entry: content by a letter, window by a day; its file is another one each time."""
    digests = Digests(f"{number:064x}", letter * 64)
    window = ToldWindow(DAY + timedelta(days=day))
    return PastModel(number, resource, BlobReference(f"models/{number}.ilearner"), digests, window, is_live=live)


#: The last one first: day 1 was trained twice, day 2 twice with the same outcome, and the other resource is another's.
MODELS = (
    model(6, "c", 2, live=True), model(5, "c", 2), model(4, "b", 1), model(3, "d", 1, resource="other"),
    model(2, "a", 1), model(1, "e", 0),
)  # fmt: skip
LIVE = Resource("m", digests=MODELS[0].digests)


def test_a_window() -> None:
    """Of the models of a window the one that was put live last; finer moments than seconds do not count."""
    end = DAY + timedelta(days=1, microseconds=5)
    assert Choice(end).of(MODELS, LIVE).number == 4
    assert Choice(DAY + timedelta(days=2)).of(MODELS, LIVE).number == 6
    with pytest.raises(NotFound, match=r"ends at 2026-03-08 00:00 UTC.*bbbbbbbbbbbb \(2026-03-02 00:00 UTC\)"):
        Choice(DAY + timedelta(days=7)).of(MODELS, LIVE)


def test_a_digest() -> None:
    """The beginning of the digest of a content or of a file; several contents that fit are told, and so is none."""
    assert Choice(digest="AAAAAA").of(MODELS, LIVE).number == 2
    assert Choice(digest=f"{4:064x}").of(MODELS, LIVE).number == 4
    assert Choice(digest="cccccc").of(MODELS, LIVE).number == 6
    with pytest.raises(RequestRejected, match="Several models"):
        Choice(digest="000000").of(MODELS, LIVE)
    with pytest.raises(NotFound, match=r"begins with 'ffffff'.*it had: cccccccccccc"):
        Choice(digest="ffffff").of(MODELS, LIVE)
    with pytest.raises(ValueError, match="first 6 letters"):
        Choice(digest="aaaaa")


def test_the_one_before() -> None:
    """Without a choice the last one that answers otherwise than the live one; the same model trained again is none."""
    assert Choice().of(MODELS, LIVE).number == 4
    with pytest.raises(NotFound, match="but the one that is live"):
        Choice().of(MODELS[:2], LIVE)


def test_every_page_is_read() -> None:
    """The largest there are, one after another, until there is none; and no more than a server keeps."""
    script = Script(list_models=[ModelPage(MODELS[:2], 5), ModelPage(MODELS[2:])])
    assert script.perform(past_models(CLIENT, Endpoint("e", "s"))) == MODELS
    asked = {"service_id": "s", "name": "e", "limit": MAX_PAGE}
    assert script.calls == [("list_models", {**asked, "before": None}), ("list_models", {**asked, "before": 5})]
    endless = Script(list_models=[ModelPage(MODELS[:1], 5)])
    assert len(endless.perform(past_models(CLIENT, Endpoint("e", "s")))) == 20


def test_a_model_to_be_put_back() -> None:
    """Its place with what opens it, its window, its digests; it is of no job."""
    target = Target(WebService("s", "Bikes"), Endpoint("e", "s", resources=(LIVE,)), LIVE)
    script = Script(list_models=[ModelPage(MODELS)])
    opened = lambda place: replace(place, sas_token="?t")  # noqa: E731
    candidate = script.perform(past_candidate(CLIENT, target, Choice(), opened))
    past = MODELS[2]
    assert candidate == Candidate(opened(past.location), Window(DAY + timedelta(days=1)), digests=past.digests)
    unknown = replace(past, window=None)
    script = Script(list_models=[ModelPage((unknown,))])
    assert script.perform(past_candidate(CLIENT, target, Choice(), opened)).window is None


def test_names_of_models() -> None:
    """The content's digest, else the file's, else nothing."""
    assert [short(one) for one in (Digests("a" * 64, "b" * 64), Digests("a" * 64), None)] == ["b" * 12, "a" * 12, ""]


def test_messages_name_the_models_of_the_resource() -> None:
    """Each once, ten at most, with its window; of other resources none."""
    many = tuple(model(number, f"{number:x}", 0) for number in range(12))
    with pytest.raises(NotFound) as caught:
        Choice(digest="ffffff").of((*many, MODELS[3], replace(many[0], window=None)), LIVE)
    message = str(caught.value)
    assert message.count("(2026-03-01 00:00 UTC)") == 10
    assert "dddddddddddd" not in message
    with pytest.raises(NotFound, match=r"it had: none\."):
        Choice().of((), LIVE)
    with pytest.raises(NotFound, match=r"\(window unknown\)"):
        Choice(DAY).of((replace(many[0], window=None),), LIVE)


def test_what_is_live() -> None:
    """By the entry, or by the same digests; a model of which nothing is known is another one."""
    entry = model(1, "a", 0, live=True)
    nothing = replace(model(2, "b", 0), digests=None)
    assert Choice().of((entry, nothing), Resource("m")).number == 2
    assert Choice().of((nothing,), LIVE).number == 2
    # The case of a digest does not matter, as its beginning is typed.
    assert Choice(digest="AAAAAA").of((nothing, entry), LIVE).number == 1
