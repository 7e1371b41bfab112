"""Which of the models that an endpoint had is meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_azureml_classic.exceptions import NotFound, RequestRejected
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.model_history import PastModel
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow
from airflow_provider_azureml_classic.protocol.values import Resource
from airflow_provider_azureml_classic.retraining.past_models import Choice

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
