"""Waiting for an endpoint's model to be fresh, for callers to drift, and for somebody else's job to end."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseSensorOperator, conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, JobCancelled, JobFailed
from airflow_provider_azureml_classic.hooks import AzureMLClassicHook, jittered
from airflow_provider_azureml_classic.memory import Deadline
from airflow_provider_azureml_classic.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_ENDPOINT,
    airflow_errors,
    attempt_ends,
    attempt_over,
    first_of,
    skip,
)
from airflow_provider_azureml_classic.operators.ending import Ending, TaskEnded
from airflow_provider_azureml_classic.protocol.drift import Terms
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.freshness import Goal, limit_of, run_window
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.proof import as_expected

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.protocol.values import Endpoint
    from airflow_provider_azureml_classic.retraining.proof import Expectation
    from airflow_provider_azureml_classic.triggers import EndpointTrigger

T = TypeVar("T")
#: Endpoints that the log and the result say more of than their names.
_MOST_LOGGED, _MOST_TOLD = 20, 200
#: For ``trained_to``: the end of the run's own training window.
RUN = "run"
#: For ``job``: an empty one is an upstream task's that left no result, and not the same.
_NOT_SET: Any = "not set"


class WaitingSensor(BaseSensorOperator):
    """A sensor that waits in the worker or in the triggerer, with the same time-out and the same words at its end.

    :param deferrable: wait in the triggerer.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``.
    """

    def __init__(
        self,
        *,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        azureml_classic_conn_id: str = DEFAULT_CONNECTION,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = deferrable
        self.azureml_classic_conn_id = azureml_classic_conn_id
        self._result: dict[str, Any] = {}
        self.ending = Ending()

    @cached_property
    def hook(self) -> AzureMLClassicHook:
        """The hook of the connection; its pauses end with the task."""
        return AzureMLClassicHook(self.azureml_classic_conn_id, sleep=self.ending.sleep)

    def on_kill(self) -> None:
        """The task is ended from outside: the wait sees it in its next pause, and what is awaited goes on. See
        :mod:`.operators.ending`.
        """
        self.ending.asked = True

    def _get_next_poke_interval(self, *args: Any) -> float:
        """Airflow's, which it sleeps for in one piece; in the worker it is slept for here, in pieces."""
        seconds: float = super()._get_next_poke_interval(*args)
        if self.reschedule:
            return seconds
        if self.ending.asked:
            raise TaskEnded  # again, where silent_fail has swallowed it in a poll
        self.ending.sleep(seconds)
        return 0.0

    @property
    @abstractmethod
    def _subject(self) -> str:
        """What is polled, for the log."""

    @abstractmethod
    def _poll(self) -> bool:
        """Whether the wait is over.

        :raises AzureMLClassicError: one that may pass says nothing yet.
        """

    @abstractmethod
    def _awaited(self, limit: str) -> str:
        """The message of a time-out: what was awaited in vain, and the last known state. It calls no service.

        :param limit: the time that is over.
        """

    @abstractmethod
    def _trigger(self, deadline: float, first_look: float) -> EndpointTrigger:
        """The trigger that waits.

        :param deadline: seconds since 1970.
        :param first_look: seconds before its first poll, at least.
        """

    def poke(self, context: Context) -> bool:
        """Poll once. As in the triggerer, a failed poll says nothing; the time-out ends the wait."""
        try:
            with airflow_errors():
                return self._tolerant(self._poll) or False
        except AirflowFailException as error:
            if self.soft_fail or self.never_fail:
                raise skip(self, f"{'soft_fail' if self.soft_fail else 'never_fail'}: {error}") from error
            raise

    def _tolerant(self, call: Callable[[], T]) -> T | None:
        """The result of a call; ``None``, and a line in the log, if the service cannot answer just now."""
        try:
            return call()
        except AzureMLClassicError as error:
            if not error.retryable:
                raise
            self.log.warning("Cannot read %s just now: %s", self._subject, error)
            return None

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait in the worker, or poll once and wait in the triggerer."""
        if self.deferrable:
            if not self.poke(context):
                self._defer(context, Deadline(context).begin(float(self.timeout)))
            return self._result
        try:
            super().execute(context)
        except AirflowSensorTimeout:
            raise AirflowSensorTimeout(self._too_late()) from None
        except AirflowSkipException as error:
            # Airflow's own message of a time-out with soft_fail tells only the time.
            late = str(error).startswith("Sensor has timed out")
            raise (skip(self, self._too_late()) if late else error) from None
        return self._result

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer: poll again, because the event holds no verdict.

        :param context: Airflow's task context.
        :param event: the ``deadline``, for an Airflow without a task state store.
        """
        wait = Deadline(context)
        if not self.poke(context):
            deadline, limit = wait.resume(event), attempt_over(self, context)
            if time.time() < deadline and not limit:
                # The trigger saw what the worker does not see: it must not send the worker here again at once.
                self._defer(context, deadline, first_look=float(self.poke_interval))
            message = self._awaited(limit) if limit else self._too_late()
            self.log.info("%s", message)  # with soft_fail Airflow logs only that it is set
            raise AirflowException(message) if limit else AirflowSensorTimeout(message)
        wait.forget()
        return self._result

    def _too_late(self) -> str:
        return self._awaited(f"{self.timeout:g} s")

    def _defer(self, context: Context, deadline: float, first_look: float = 0.0) -> None:
        ends = first_of(deadline, attempt_ends(self, context)) or deadline
        while True:
            with airflow_errors():
                trigger = self._tolerant(lambda: self._trigger(ends, first_look))
            if trigger is not None:
                # The deadline is the trigger's own, so that both modes end with the same words.
                self.defer(trigger=trigger, method_name="execute_complete", timeout=None)
            # A trigger needs ids, which a service that is away cannot tell: those are waited for here.
            left = deadline - time.time()
            if left <= 0:
                raise skip(self, self._too_late()) if self.soft_fail else AirflowSensorTimeout(self._too_late())
            self.ending.sleep(min(jittered(float(self.poke_interval)), left))


class ModelFreshnessSensor(WaitingSensor):
    """Waits until an endpoint's live model is fresh, and optionally until it answers.

    One of ``job``, ``trained_to`` and ``max_age`` defines what is fresh; without any of them, the limit of the endpoint
    does (``StaleAfter``, which the self-hosted server keeps and its portal reads, too). The live model is read from
    the endpoint's ``Resources[].Location``; one of unknown age is not fresh.

    Returns a dict: ``endpoint``, ``location`` of the live model and, if ``score_with`` is set, the ``answers``.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint. (templated)
    :param job: the model that this job wrote is fresh: what ``BatchExecutionOperator`` returned. (templated)
    :param trained_to: a model trained on data up to this moment or later is fresh: ISO 8601, to the second; or
        ``"run"``: the end of the training window that the operators of this run take, whatever started it. (templated)
    :param max_age: a model whose training data end at most this long ago is fresh.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param score_with: rows, one mapping each, that the endpoint must answer too. (templated)
    :param expect: called with the answers, one mapping each; after a false result the wait goes on. Or the expected
        answers themselves, one mapping each, with the columns to compare.
    :param tolerance: by which numbers may differ from ``expect``, absolutely or relatively.
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "web_service",
        "endpoint",
        "job",
        "trained_to",
        "resource",
        "score_with",
    )
    template_fields_renderers = {"job": "json", "score_with": "json"}  # noqa: RUF012
    ui_color = "#ede9fe"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        job: Mapping[str, Any] | None = _NOT_SET,
        trained_to: datetime | str | None = None,
        max_age: timedelta | None = None,
        resource: str | None = None,
        score_with: Sequence[Mapping[str, Any]] | None = None,
        expect: Expectation | None = None,
        tolerance: float = 1e-4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self._by_limit = job is _NOT_SET and trained_to is None and max_age is None
        self.job = None if job is _NOT_SET else job
        self.trained_to = trained_to
        self.max_age = max_age
        self.resource = resource
        self.score_with = score_with
        self.expect = expect
        self.tolerance = tolerance
        self._limit: timedelta | None = None
        self._result = {"endpoint": endpoint, "location": None}

    def poke(self, context: Context) -> bool:
        """Poll once; the run says which moment ``"run"`` is."""
        if self.trained_to == RUN:
            with airflow_errors():
                self.trained_to = run_window(context).end
        return super().poke(context)

    @property
    def goal(self) -> Goal:
        """What is waited for; where the endpoint says it, as it said last."""
        return Goal(max_age=self._limit) if self._by_limit else self._goal

    @cached_property
    def _goal(self) -> Goal:
        location = self._location_of_job() if self.job is not None else None
        return Goal(location, to_utc(self.trained_to) if self.trained_to else None, self.max_age)

    def _location_of_job(self) -> BlobReference:
        model = trained_model(self.hook.finished_job(self.job), self.job or {})
        return BlobReference(model.relative_location, model.base_location)

    @property
    def _subject(self) -> str:
        return f"endpoint {self.endpoint!r}"

    def _poll(self) -> bool:
        """Poll once; the log tells what is live and what is awaited."""
        _, endpoint = self.hook.find(self.web_service, self.endpoint)
        if self._by_limit:
            self._limit = limit_of(endpoint)
        resource = endpoint.resource(self.resource)
        fresh, state = self.goal.check(resource, datetime.now(UTC))
        self.log.info("%s Awaited: %s. %s", state, self.goal, "Fresh." if fresh else "Not fresh yet.")
        live = resource.location
        self._result = {"endpoint": endpoint.name, "location": live.location if live else None}
        return fresh and self._answers(endpoint)

    def _answers(self, endpoint: Endpoint) -> bool:
        if not self.score_with:
            return True
        scored = self.hook.client.score(endpoint, Table.of(self.score_with))
        self._result["answers"] = scored.rows
        if not as_expected(self.expect, scored.rows, self.tolerance):
            self.log.info("The endpoint answers, but not as expected: %s", scored.rows[:3])
            return False
        self.log.info("The endpoint answers: %s", scored.rows[:3])
        return True

    def _awaited(self, limit: str) -> str:
        # Only the service knows which model a job wrote, and it may have been away all the time.
        unknown = self.job is not None and "_goal" not in vars(self)
        awaited = (
            f"the model of job {self.job['job_id']}"
            if self.job and unknown
            else "a model that is not older than the endpoint's limit"
            if self._by_limit and self._limit is None
            else self.goal
        )
        live = self._result["location"] or "not seen"
        return (
            f"Endpoint {self.endpoint!r} of {self.web_service!r} was not fresh within {limit}. "
            f"Awaited: {awaited}. Live: {live}."
        )

    def _trigger(self, deadline: float, first_look: float) -> EndpointTrigger:
        # Only what defers pays for the triggers: reading a DAG file would take a twentieth longer with them.
        from airflow_provider_azureml_classic.triggers import FreshnessTrigger

        goal = None if self._by_limit else self.goal
        model, trained_to, max_age = (goal.location, goal.trained_to, goal.max_age) if goal else (None, None, None)
        return FreshnessTrigger(
            azureml_classic_conn_id=self.azureml_classic_conn_id,
            web_service_id=self.hook.client.find_web_service(self.web_service).id,
            endpoint=self.endpoint,
            deadline=deadline,
            poll_interval=float(self.poke_interval),
            first_look=first_look,
            resource=self.resource,
            location=(model.base_location, model.address_path) if model else None,
            trained_to=trained_to.isoformat() if trained_to else None,
            max_age=max_age.total_seconds() if max_age is not None else None,
        )


class ModelDriftSensor(WaitingSensor):
    """Waits until callers ask endpoints of a web service for something else than their models were trained on. The
    server counts what they ask, and tells it in one call for all endpoints; a service without this addition fails the
    task at once.

    Returns ``endpoints``: names, and ``drift``: for each of the first 200 its ``endpoint``, ``model`` (SHA-256 of the
    file), ``psi`` (the largest stability index), ``features`` that drifted, ``rows`` that were counted and, as a
    sentence, the ``reason``.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: the endpoint; ``None``: any of them. (templated)
    :param days: the calls of so many days, today included.
    :param psi: least population stability index of a drift.
    :param rows: fewer rows tell nothing.
    :param ignore: features that are left out, as those that follow the calendar. (templated)
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "endpoint", "ignore")
    ui_color = "#ede9fe"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str | None = None,
        days: int = Terms.days,
        psi: float = Terms.psi,
        rows: int = Terms.rows,
        ignore: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.days = days
        self.psi = psi
        self.rows = rows
        self.ignore = ignore
        self._result = {"endpoints": [], "drift": []}

    @property
    def _terms(self) -> Terms:
        return Terms(self.days, self.psi, self.rows, frozenset(self.ignore))

    @property
    def _subject(self) -> str:
        return f"the drift of {self.web_service!r}"

    def _poll(self) -> bool:
        """Poll once; the log tells what has drifted."""
        found = self.hook.find_drifted(self.web_service, self._terms)
        drifted = [one for one in found if self.endpoint in (None, one.name)]
        for one in drifted[:_MOST_LOGGED]:
            self.log.info("%s", one)
        self.log.info("%d endpoints of %r have drifted.", len(found), self.web_service)
        self._result = {
            "endpoints": [one.name for one in drifted],
            "drift": [one.facts() for one in drifted[:_MOST_TOLD]],
        }
        return bool(drifted)

    def _awaited(self, limit: str) -> str:
        what = f"Endpoint {self.endpoint!r}" if self.endpoint else "No endpoint"
        not_seen = " was not seen to drift" if self.endpoint else " was seen to drift"
        return f"{what} of {self.web_service!r}{not_seen} within {limit}."

    def _trigger(self, deadline: float, first_look: float) -> EndpointTrigger:
        # As above.
        from airflow_provider_azureml_classic.triggers import DriftTrigger

        terms = self._terms
        return DriftTrigger(
            azureml_classic_conn_id=self.azureml_classic_conn_id,
            web_service_id=self.hook.client.find_web_service(self.web_service).id,
            endpoint=self.endpoint or DEFAULT_ENDPOINT,
            deadline=deadline,
            poll_interval=float(self.poke_interval),
            first_look=first_look,
            only=self.endpoint,
            terms={**vars(terms), "ignore": sorted(terms.ignore)},
        )


class JobSensor(WaitingSensor):
    """Waits until a batch job that somebody else submitted has finished. The job goes on whatever becomes of the task;
    one that fails or is cancelled fails the task at once, with the service's details.

    Returns what ``BatchExecutionOperator`` does, so that ``UpdateTrainedModelOperator`` takes it as its ``job``.

    :param job: what ``BatchExecutionOperator(wait_for_completion=False)`` returned. (templated)
    :param job_id: instead of ``job``, the job's id. (templated)
    :param web_service: name or id of the web service that runs it, with ``job_id``. (templated)
    :param endpoint: the endpoint that it was submitted to, with ``job_id``. (templated)
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "job", "job_id", "web_service", "endpoint")
    template_fields_renderers = {"job": "json"}  # noqa: RUF012
    ui_color = "#fef3c7"

    def __init__(
        self,
        *,
        job: Mapping[str, Any] | None = None,
        job_id: str | None = None,
        web_service: str | None = None,
        endpoint: str = DEFAULT_ENDPOINT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.job_id = job_id
        self.web_service = web_service
        self.endpoint = endpoint
        self._status = "not seen yet"

    @cached_property
    def ticket(self) -> JobTicket:
        """Which job."""
        return JobTicket.of(self.job, self.job_id, self.web_service, self.endpoint)

    @property
    def _subject(self) -> str:
        return f"job {self.ticket.job_id}"

    def _poll(self) -> bool:
        ticket = self.ticket
        _, endpoint = self.hook.find(ticket.web_service, ticket.endpoint)
        job = self.hook.client.get_job(endpoint, ticket.job_id)
        self._status = job.status.value
        self.log.info("Job %s of %r is %s.", job.id, ticket.web_service, self._status)
        try:
            job.raise_unless_finished()
        except (JobFailed, JobCancelled) as error:
            # The same job never ends otherwise, so a retry is useless; the hints are for those who submit.
            raise AirflowFailException(error.message) from error
        outputs = {name: output.location for name, output in job.results.items()}
        self._result = {
            **ticket.result,
            **ticket.to_json(),
            "job_id": job.id,
            "status": self._status,
            "outputs": outputs,
        }
        return job.status.terminal

    def _awaited(self, limit: str) -> str:
        return (
            f"Job {self.ticket.job_id} of {self.ticket.web_service!r} did not end within {limit}; it is "
            f"{self._status}, and goes on."
        )

    def _trigger(self, deadline: float, first_look: float) -> EndpointTrigger:
        # As above.
        from airflow_provider_azureml_classic.triggers import JobTrigger

        return JobTrigger(
            azureml_classic_conn_id=self.azureml_classic_conn_id,
            web_service_id=self.hook.client.find_web_service(self.ticket.web_service).id,
            endpoint=self.ticket.endpoint,
            job_id=self.ticket.job_id,
            cancel_on_kill=False,
            deadline=deadline,
            poll_interval=float(self.poke_interval),
            first_look=first_look,
        )
