"""What a task remembers of its job."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest

from airflow_provider_azureml_classic.memory import KEY, JobMemory, JobState
from tests.support.tasks import Store, context


def test_keep_recall_forget() -> None:
    """A job is remembered until it is forgotten."""
    store = Store()
    memory = JobMemory(context(store))
    assert memory.recall() is None
    memory.keep(JobState("j1", memory.epoch, 12.5))
    assert JobMemory(context(store)).recall() == JobState("j1", 2, 12.5)
    memory.forget()
    assert memory.recall() is None
    assert store.kept == {}


def test_what_is_kept_is_plain() -> None:
    """What is stored is JSON under a name that must not change, and holds ids only."""
    store = Store()
    JobMemory(context(store)).keep(JobState("j1", 2))
    assert KEY == "azureml_classic_job"
    assert json.loads(json.dumps(store.kept)) == {KEY: {"job_id": "j1", "epoch": 2, "deadline": None}}


@pytest.mark.parametrize(("tries", "epoch"), [(2, 2), (0, 0), (None, 0)])
def test_epoch(tries: int | None, epoch: int) -> None:
    """The epoch is the task's ``max_tries``, which a clear raises and a retry leaves alone."""
    assert JobMemory({"ti": SimpleNamespace(max_tries=tries), "task_state_store": Store()}).epoch == epoch


def test_no_store(caplog: pytest.LogCaptureFixture) -> None:
    """An Airflow without a store is told of once, and then nothing is remembered."""
    with caplog.at_level(logging.WARNING):
        memory = JobMemory({})
    assert "a retry after a crash submits a new job" in caplog.text
    memory.keep(JobState("j1", 0))
    memory.forget()
    assert memory.recall() is None


@pytest.mark.parametrize("kept", ["an older form", ["j1"], {"epoch": 2}, None])
def test_unreadable_state_is_ignored(kept: object) -> None:
    """What another version kept in another form is not taken up."""
    store = Store()
    store.kept[KEY] = kept
    assert JobMemory(context(store)).recall() is None


@pytest.mark.parametrize("kept", [{"job_id": "j1", "epoch": 2, "since": 1}, {"job_id": "j1"}])
def test_state_of_another_version(kept: object) -> None:
    """A state with other members still names its job."""
    store = Store()
    store.kept[KEY] = kept
    found = JobMemory(context(store)).recall()
    assert found is not None
    assert found.job_id == "j1"
