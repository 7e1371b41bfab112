"""What may be retried: the service's own error decides, whoever raised it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.exceptions import (
    AccessDenied,
    AzureMLClassicError,
    JobFailed,
    ProtocolError,
    RequestRejected,
    ServiceUnavailable,
    UpdateNotProved,
)
from airflow_provider_azureml_classic.hooks import airflow_errors
from airflow_provider_azureml_classic.scheduling.retry_policy import ServiceRetryPolicy

POLICY = ServiceRetryPolicy(timedelta(minutes=1), timedelta(minutes=10))


def raised(error: AzureMLClassicError) -> BaseException:
    """What an operator makes of an error of the service."""
    with pytest.raises(AirflowException) as caught, airflow_errors():
        raise error
    return caught.value


@pytest.mark.parametrize("error", [ServiceUnavailable("busy"), ProtocolError("a page")])
def test_a_service_that_does_not_answer_is_asked_less_and_less_often(error: AzureMLClassicError) -> None:
    """After 1, 2, 4 and 8 minutes, and then every 10."""
    decisions = [POLICY.evaluate(raised(error), number, 99) for number in (1, 2, 3, 4, 5, 90)]
    assert {one.action for one in decisions} == {RetryAction.RETRY}
    assert [one.retry_delay for one in decisions] == [timedelta(minutes=n) for n in (1, 2, 4, 8, 10, 10)]


def test_a_training_is_not_bought_again_and_again() -> None:
    """Once more, with the task's own delay; then the task fails though it had attempts left."""
    error = raised(JobFailed("no label"))
    assert [POLICY.evaluate(error, number, 99).action for number in (1, 2)] == [RetryAction.DEFAULT, RetryAction.FAIL]


@pytest.mark.parametrize("kind", [RequestRejected, AccessDenied, UpdateNotProved])
def test_what_would_fail_again_fails_at_once(kind: type[AzureMLClassicError]) -> None:
    """Also in a task of one's own, to which Airflow would give all its retries."""
    assert POLICY.evaluate(kind("wrong"), 1, 99).action is RetryAction.FAIL


def test_all_other_errors_are_airflows_own_affair() -> None:
    """A task that was ended from outside, and whatever else is not of the service."""
    for error in (AirflowException("ended from outside"), ZeroDivisionError(), KeyboardInterrupt()):
        assert POLICY.evaluate(error, 1, 3).action is RetryAction.DEFAULT


def test_it_is_read_as_it_was_written() -> None:
    """Where an Airflow asks for that."""
    assert ServiceRetryPolicy.deserialize(POLICY.serialize()) == POLICY
