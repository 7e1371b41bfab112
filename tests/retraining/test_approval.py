"""An approval is for one model on one endpoint, instead of the one that was shown; nothing else passes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_azureml_classic.exceptions import RequestRejected
from airflow_provider_azureml_classic.protocol.approval import Approval
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint, Resource, WebService
from airflow_provider_azureml_classic.retraining.approval import APPROVED, NOT_NEEDED, REJECTED, Decision
from airflow_provider_azureml_classic.retraining.jobs import JobTicket
from airflow_provider_azureml_classic.retraining.placing import Candidate, Target

JOB = "1" * 32
MEMBERS = ("decision", "evidence", "endpoint", "web_service_id", "job_id")
A, B, C = (Digests(letter * 64, letter * 63 + "0") for letter in "abc")


def answer(model: Digests | None = A, live: Digests | None = B, **more: Any) -> dict[str, Any]:
    """What a task that asked returns."""
    approval = Approval("Ada", datetime(2026, 3, 1, tzinfo=UTC), "e" * 64, "dag", model)
    facts = {"endpoint": "bikes", "web_service_id": "s", "job_id": JOB, "decision": APPROVED}
    return {**approval.to_json(), **facts, "live": live.to_json() if live else None, **more}


def target(live: Digests | None = B, service: str = "s", name: str = "bikes") -> Target:
    """What would be updated."""
    resource = Resource("r", BlobReference("m/live.ilearner"), digests=live)
    return Target(WebService(service, "Bikes"), Endpoint(name, service, resources=(resource,)), resource)


def candidate(digests: Digests | None = A, job: str | None = JOB) -> Candidate:
    """What would be put live."""
    ticket = JobTicket("s", "default", job) if job else None
    return Candidate(BlobReference("m/new.ilearner"), None, ticket, digests=digests)


def decision(**more: Any) -> Decision:
    """The decision that a task returned."""
    read = Decision.from_json(answer(**more))
    assert read is not None
    return read


def test_an_answer_is_read() -> None:
    """Yes or no, by whom, and what it was about; where nobody is asked there is none."""
    data = answer()
    read = decision()
    assert (read.approved, read.approval.by, read.approval.model, read.facts) == (True, "Ada", A, data)
    assert not decision(decision=REJECTED).approved
    assert Decision.from_json(NOT_NEEDED) is None
    # What Airflow's page shows of both.
    assert (APPROVED, REJECTED, NOT_NEEDED) == ("approved", "rejected", "not needed")


@pytest.mark.parametrize("data", [None, "", "None"])
def test_nothing_is_no_approval(data: Any) -> None:
    """A task that left no result has not agreed."""
    with pytest.raises(ValueError, match="approval is empty, so nobody has agreed"):
        Decision.from_json(data)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_part_is_no_approval(member: str) -> None:
    """An answer without one of its members is none."""
    data = answer()
    del data[member]
    with pytest.raises(ValueError, match="must be what ApproveModelOperator returned, not dict"):
        Decision.from_json(data)


@pytest.mark.parametrize(
    ("data", "words"), [("yes", "not str"), (answer(evidence="x"), "evidence is no SHA-256"), (5, "not int")]
)
def test_something_else_is_no_approval(data: Any, words: str) -> None:
    """It never counts as "none is needed"."""
    with pytest.raises(ValueError, match=f"must be what ApproveModelOperator returned(, |: its member ).*{words}"):
        Decision.from_json(data)


def test_members_alone_are_no_approval() -> None:
    """What they say must be one as well."""
    with pytest.raises(ValueError, match="must be what ApproveModelOperator returned: "):
        Decision.from_json(dict.fromkeys(MEMBERS, "x"))


@pytest.mark.parametrize(
    ("about", "what", "passes"),
    [
        (A, candidate(), True),
        (A, candidate(B), False),
        # The same model, trained by another job.
        (A, candidate(A, "2" * 32), True),
        (A, candidate(B, "2" * 32), False),
        # Without digests the job decides.
        (None, candidate(None), True),
        (None, candidate(A), True),
        (A, candidate(None), True),
        (None, candidate(None, "2" * 32), False),
        (None, candidate(None, None), False),
    ],
)
def test_it_is_for_one_model(about: Digests | None, what: Candidate, passes: bool) -> None:
    """By digest where both are known, else by the job that wrote it."""
    asked = decision(model=about)
    if passes:
        asked.check(target(), what)
        return
    with pytest.raises(RequestRejected, match="Nothing was changed") as caught:
        asked.check(target(), what)
    assert caught.value.detail_code == "InvalidOperation"
    meant, other = about and about.content, what.digests and what.digests.content
    assert (f"the model {meant[:12]}" if meant else "whose digest is not known") in str(caught.value)
    assert (f"the model {other[:12]}" if other else "whose digest is not known") in str(caught.value)


@pytest.mark.parametrize("where", [target(service="t"), target(name="cars")])
def test_it_is_for_one_endpoint(where: Target) -> None:
    """Of one web service."""
    with pytest.raises(RequestRejected, match="'bikes' of web service s"):
        decision().check(where, candidate())


@pytest.mark.parametrize(
    ("shown", "live", "passes"),
    [(B, B, True), (B, C, False), (B, A, True), (None, C, True), (B, None, True)],
)
def test_it_replaces_the_model_that_was_shown(shown: Digests | None, live: Digests | None, passes: bool) -> None:
    """If another one went live since, nobody has seen that comparison; unless it is the very model that is meant."""
    asked = decision(live=shown)
    if passes:
        asked.check_live(target(live), candidate())
        return
    with pytest.raises(RequestRejected, match="meanwhile the model cccccccccccc is live on endpoint 'bikes'"):
        asked.check_live(target(live), candidate())


def test_a_model_whose_content_is_not_known_is_named_by_its_file() -> None:
    """As services of earlier versions tell it."""
    with pytest.raises(RequestRejected, match="for the model aaaaaaaaaaaa of job"):
        decision(model=Digests("a" * 64)).check(target(), candidate(None, "2" * 32))
