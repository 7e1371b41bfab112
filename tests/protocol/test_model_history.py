"""The list of the models that an endpoint had: what is written is read, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import ProtocolError, RequestRejected
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.model_history import ModelPage, PastModel
from airflow_provider_azureml_classic.protocol.pages import read_before
from airflow_provider_azureml_classic.protocol.references import BlobReference, ToldWindow

NOON = datetime(2016, 3, 1, 12, tzinfo=UTC)
PATH = BlobReference("models/one/20160301T120000Z-abc.ilearner", "https://store.test/")
FULL = PastModel(
    7, "m", PATH, Digests("a" * 64, "b" * 64), ToldWindow(NOON, False, NOON, NOON), NOON, "patch", True, "c" * 32,
    {"AUC": 0.5}, 12, True, Approval("Ada", NOON, "d" * 64, "gated/r1/approve", Digests("a" * 64, "b" * 64)),
)  # fmt: skip


def test_a_page_survives() -> None:
    """Every member, and an entry of which hardly anything is known; its window is that of its path."""
    page = ModelPage((FULL, PastModel(6, "m", PATH)), 6)
    assert ModelPage.from_wire(page.to_wire()) == page
    assert page.models[1].window_end == NOON


@pytest.mark.parametrize(
    "data",
    [None, [], {}, {"Models": {}}, {"Models": ["a"]}, {"Models": [{"Number": 1}]}, {"Models": [{"Number": "1"}]},
     {"Models": [{"Number": 1, "Resource": "m"}]}],
)  # fmt: skip
def test_no_page(data: Any) -> None:
    """An answer of another shape, or an entry without number, resource or place, is an error of the protocol."""
    with pytest.raises(ProtocolError):
        ModelPage.from_wire(data)


def test_odd_members_tell_nothing() -> None:
    """Members of other kinds, and metrics that are no finite numbers, are passed over."""
    odd = {"Number": 1, "Resource": "m", "Location": PATH.to_wire(), "JobId": 5, "Length": "9", "IsLive": "yes"}
    odd |= {"Metrics": {"a": "b", "c": float("nan"), "d": 2, "e": 10**400, "f": True}, "PutLiveAt": "noon"}
    odd |= {"ModelDigests": [], "How": None}
    assert PastModel.from_wire(odd) == PastModel(1, "m", PATH, metrics={"d": 2.0})
    assert PastModel.from_wire({**odd, "Metrics": [1]}) == PastModel(1, "m", PATH)
    assert ModelPage.from_wire({"Models": [], "Next": "later"}) == ModelPage(())


def test_where_a_page_begins() -> None:
    """A number of an entry; everything else is refused by the parameter's name."""
    assert (read_before(None), read_before("12")) == (None, 12)
    for text in ("", "-1", "1.0", "x", "\u0661", "9" * 10):
        with pytest.raises(RequestRejected, match="before is"):
            read_before(text)
