"""What another attempt of a task can mend, and when, as a retry policy of Airflow 3.3 and later.

Operators fail at once, whatever ``retries`` says, where the same call would fail again: a wrong request, a wrong key,
something that is not there, an update that could not be proved. What is left may be retried, and Airflow waits
``retry_delay`` before each attempt. This policy adds what only the error tells: a service that does not answer is asked
again soon, and then less and less often; a training that failed is not bought again and again. It also holds for tasks
of one's own that use the hook or the client, whose errors Airflow would retry whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, JobFailed

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class ServiceRetryPolicy(RetryPolicy):
    """Retries by the service's own error; ``retries`` of the task is the most there are in any case.

    :param first_delay: pause after the first attempt that the service did not answer; doubled with each.
    :param longest_delay: of these pauses.
    :param trainings: attempts in all, if the job itself failed: the same data mostly fail alike.
    """

    first_delay: timedelta = timedelta(minutes=1)
    longest_delay: timedelta = timedelta(minutes=30)
    trainings: int = 2

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Whether and when to try again; Airflow's own rules where the error is not one of the service.

        :param exception: what ended the attempt.
        :param try_number: of the attempt, from 1.
        :param max_tries: not needed.
        :param context: not needed.
        """
        error = service_error(exception)
        if error is None:
            return RetryDecision.default()
        if not error.retryable:
            return RetryDecision.fail(f"{type(error).__name__}: the same attempt would fail again")
        if isinstance(error, JobFailed):
            if try_number >= self.trainings:
                return RetryDecision.fail(f"the job has failed, and this was attempt {try_number} of {self.trainings}")
            return RetryDecision.default()
        pause = min(self.first_delay * 2 ** min(try_number - 1, 20), self.longest_delay)
        return RetryDecision.retry(pause, f"{type(error).__name__}: the service may answer later")

    def serialize(self) -> dict[str, Any]:
        """For Airflow, which evaluates policies where the DAG file is read."""
        return {
            "first_delay": self.first_delay.total_seconds(),
            "longest_delay": self.longest_delay.total_seconds(),
            "trainings": self.trainings,
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ServiceRetryPolicy:
        """The policy that :meth:`serialize` wrote.

        :param data: what it wrote.
        """
        first, longest = (timedelta(seconds=data[name]) for name in ("first_delay", "longest_delay"))
        return cls(first, longest, data["trainings"])


def service_error(exception: BaseException) -> AzureMLClassicError | None:
    """The service's error behind what ended a task; ``None`` if there is none.

    :param exception: the error itself, or Airflow's that an operator made of it.
    """
    for error in (exception, exception.__cause__):
        if isinstance(error, AzureMLClassicError):
            return error
    return None
