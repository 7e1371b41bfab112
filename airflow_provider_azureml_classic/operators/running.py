"""Running a batch job of any kind: submit, start, wait; take it up again after a crash, cancel it with the task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.exceptions import WaitTimeout
from airflow_provider_azureml_classic.links import BatchJobLink, EndpointHelpLink, PortalLink, push_help, push_link
from airflow_provider_azureml_classic.memory import JobMemory
from airflow_provider_azureml_classic.operators.base import (
    AzureMLClassicOperator,
    airflow_errors,
    attempt_ends,
    attempt_over,
    first_of,
)
from airflow_provider_azureml_classic.operators.ending import ended_by_a_person, ends
from airflow_provider_azureml_classic.operators.lineage import lineage
from airflow_provider_azureml_classic.protocol.digests import Digests
from airflow_provider_azureml_classic.protocol.jobs import Job, JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.operations import GET_JOB, below_api
from airflow_provider_azureml_classic.protocol.purpose import Purpose
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.swagger import Names
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.customers import find_trainer, own_place
from airflow_provider_azureml_classic.retraining.data_contract import tell
from airflow_provider_azureml_classic.retraining.submitting import JobRunner, JobState

if TYPE_CHECKING:
    from airflow.sdk import Context

#: XCom of what was found in the data of a job that failed.
DATA_CHECK_KEY = "data_check"


class JobOperator(AzureMLClassicOperator):
    """Runs a batch job and waits for it.

    :param web_service: name or id of the web service that runs the job.
    :param endpoint: its endpoint; by default the one that trains for ``model_for``, see :func:`~.find_trainer`.
    :param inputs: by input name, where the data are.
    :param outputs: by output name, where to write.
    :param global_parameters: web service parameters by name.
    :param wait_for_completion: ``False`` returns once the job is started.
    :param deferrable: wait in the triggerer.
    :param poll_interval: seconds between two polls of the job, at most.
    :param job_timeout: seconds that the job may take in all, counted from its submission; ``None`` for no limit.
    :param on_timeout: ``cancel`` the job at the time-out, or ``leave`` it.
    :cvar model_for: the scoring endpoint that a model is for, of jobs that train one.
    """

    model_for: str | None = None
    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "web_service",
        "endpoint",
        "inputs",
        "outputs",
        "global_parameters",
    )
    template_fields_renderers = {"inputs": "json", "outputs": "json", "global_parameters": "json"}  # noqa: RUF012
    operator_extra_links = (BatchJobLink(), EndpointHelpLink(), PortalLink())

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        global_parameters: Mapping[str, Any] | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 30.0,
        job_timeout: float | None = 24 * 3600.0,
        on_timeout: Literal["cancel", "leave"] = "cancel",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.inputs = inputs
        self.outputs = outputs
        self.global_parameters = global_parameters
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.job_timeout = job_timeout
        self.on_timeout = on_timeout
        self._running: tuple[JobRunner, str] | None = None
        self._target: Endpoint | None = None
        self._service_names: Names | None = None
        self._results: Mapping[str, BlobReference] | None = None
        self._model: Digests | None = None

    def _check(self, context: Context) -> None:
        """Raise for a wrong parameter before a job is submitted, not after it.

        :param context: Airflow's task context.
        """

    def _sources(self) -> dict[str, Any]:
        """Inputs by name, as a user writes them."""
        return dict(self.inputs or {})

    def _destinations(self, context: Context, service_id: str) -> dict[str, Any]:
        """Outputs by name, as a user writes them.

        :param context: Airflow's task context.
        :param service_id: of the web service that runs the job.
        """
        return dict(self.outputs or {})

    def _names(self) -> Names:
        """What the service calls its inputs and outputs, asked for once; nothing before the task runs."""
        if self._service_names is None and self._target is not None:
            self._service_names = self.hook.client.names(self._target)
        return self._service_names or Names()

    @abstractmethod
    def _result(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        """What the task returns.

        :param context: Airflow's task context.
        :param facts: those that every job has.
        """

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit or take up the job, and wait for it in the worker or in the triggerer."""
        with airflow_errors(), ends(self.ending, partial(self._ended, context), self._cancel_running):
            self._check(context)
            memory, perform = JobMemory(context), self.hook.client.perform
            service, endpoint = self._find()
            runner = self._runner(endpoint)
            state = perform(runner.begin(memory, partial(self._request, context, service.id), self.job_timeout))
            self._running = (runner, state.job_id)
            push_help(context, endpoint)
            push_link(context, BatchJobLink, job_address(endpoint, state.job_id))
            job = self.hook.client.get_job(endpoint, state.job_id)
            self.ending.check()
            if self.wait_for_completion and not job.status.terminal:
                if self.deferrable:
                    self._check_deadline(runner, state, job)
                    self._defer(context, service.id, state)
                job = perform(runner.wait(state, self.poll_interval))
                if not job.status.terminal:
                    self._check_deadline(runner, state, job)
            return self._finish(context, memory, job)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer: what became of the job is read here, the event only ends the wait.

        :param context: Airflow's task context.
        :param event: ``job_id`` and ``deadline``, for an Airflow without a task state store.
        """
        with airflow_errors(), ends(self.ending, partial(self._ended, context), self._cancel_running):
            memory = JobMemory(context)
            service, endpoint = self._find()
            runner = self._runner(endpoint)
            # The event may be that of a trigger from before a clear: on SQLite the new trigger can get the id of the
            # deleted one, and the triggerer then goes on with what it loaded before (seen on Airflow 3.3.2).
            state = memory.recall() or JobState(event["job_id"], memory.epoch, event.get("deadline"))
            self._running = (runner, state.job_id)
            job = self.hook.client.get_job(endpoint, state.job_id)
            self.ending.check()
            if not job.status.terminal:
                self._check_attempt(context, runner, job)
                self._check_deadline(runner, state, job)
                # The trigger saw what the worker does not: it is not to send the task here again at once.
                self._defer(context, service.id, state, first_look=self.poll_interval)
            return self._finish(context, memory, job)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """For OpenLineage: the data that the job read, and what it wrote.

        :param task_instance: not needed.
        """
        if self._results is None:
            return None
        sources = [BlobReference.parse(self._place(value)) for value in self._sources().values()]
        place = next((blob for blob in self._results.values() if blob.extension == MODEL_EXTENSION), None)
        model = (place, self._model) if place is not None and self._model is not None else None
        return lineage(self.hook.settings, sources, self._results.values(), model=model)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _find(self) -> tuple[WebService, Endpoint]:
        """The web service and its endpoint, which is named from here on."""
        client = self.hook.client
        service = client.find_web_service(self.web_service)
        self._target = endpoint = client.perform(find_trainer(client, service.id, self.endpoint, self.model_for))
        self.endpoint = endpoint.name
        return service, endpoint

    def _place(self, value: Any) -> Any:
        """A place that a user wrote, in the folder of the customer whose model it is about if it says so."""
        if self._target is None:
            return value
        return own_place(value, self._target, self.model_for or self._target.name)

    def _cancel_running(self) -> None:
        if self._running is not None:
            self._cancel(*self._running)

    def _ended(self, context: Context) -> str:
        if self._running is None:
            return "The task was ended from outside before it had a job."
        runner, job_id = self._running
        who = ended_by_a_person(context["ti"])
        if who is None:
            return (
                f"The task's process was ended from outside, and not by a person: job {job_id} of "
                f"{self.web_service!r} goes on, and the task's next attempt takes it up."
            )
        cancelled = self.hook.client.perform(runner.cancel(job_id))
        outcome = "was cancelled" if cancelled else "could not be cancelled"
        return f"The task was {who}, so job {job_id} of {self.web_service!r} {outcome}."

    def _runner(self, endpoint: Endpoint) -> JobRunner:
        return JobRunner(self.hook.client, endpoint, partial(self.log.info, "%s"), partial(self.log.warning, "%s"))

    def _request(self, context: Context, service_id: str) -> JobRequest:
        return JobRequest(
            {name: self.hook.reference(self._place(value)) for name, value in self._sources().items()},
            {
                name: self.hook.reference(self._place(value))
                for name, value in self._destinations(context, service_id).items()
            },
            {name: self._place(value) for name, value in (self.global_parameters or {}).items()},
            self._purpose(context),
        )

    def _purpose(self, context: Context) -> Purpose | None:
        """What the job is for, as far as the task knows.

        :param context: Airflow's task context.
        """
        return None

    def _defer(self, context: Context, service_id: str, state: JobState, first_look: float = 0.0) -> None:
        # Only what defers pays for the triggers: reading a DAG file would take a twentieth longer with them.
        from airflow_provider_azureml_classic.triggers import JobTrigger

        self.defer(
            trigger=JobTrigger(
                azureml_classic_conn_id=self.azureml_classic_conn_id,
                web_service_id=service_id,
                endpoint=str(self.endpoint),
                job_id=state.job_id,
                deadline=first_of(state.deadline, attempt_ends(self, context)),
                poll_interval=self.poll_interval,
                first_look=first_look,
            ),
            method_name="execute_complete",
            # The deadline is the trigger's own: Airflow's would end the task without cancelling the job.
            timeout=None,
        )

    def _check_attempt(self, context: Context, runner: JobRunner, job: Job) -> None:
        if limit := attempt_over(self, context):
            self._cancel(runner, job.id)
            raise AirflowException(
                f"Job {job.id} of {self.web_service!r} was still {job.status.value} after {limit}; it was cancelled."
            )

    def _check_deadline(self, runner: JobRunner, state: JobState, job: Job) -> None:
        if not state.is_late:
            return
        if self.on_timeout == "cancel":
            self._cancel(runner, state.job_id)
        outcome = "cancelled" if self.on_timeout == "cancel" else "left alone"
        raise WaitTimeout(
            f"Job {state.job_id} of {self.web_service!r} was still {job.status.value} after job_timeout="
            f"{self.job_timeout:g} s; it was {outcome}."
        )

    def _cancel(self, runner: JobRunner, job_id: str) -> None:
        self.hook.client.perform(runner.cancel(job_id))

    def _finish(self, context: Context, memory: JobMemory, job: Job) -> dict[str, Any]:
        self.ending.check()
        tell(job.data_check, partial(self.log.info, "%s"), partial(self.log.warning, "%s"))
        if job.status is JobStatus.FAILED and job.data_check:
            # What a failed task returns is lost, so it is pushed before.
            context["ti"].xcom_push(key=DATA_CHECK_KEY, value=dict(job.data_check))
        job.raise_unless_finished()
        memory.forget()
        self._results, self._model = job.results, job.model
        self.log.info("Job %s is %s.", job.id, job.status.value)
        facts = {
            "web_service": self.web_service,
            "endpoint": self.endpoint,
            "job_id": job.id,
            "status": job.status.value,
            "outputs": {name: reference.location for name, reference in job.results.items()},
            "data_check": dict(job.data_check) if job.data_check else None,
        }
        return self._result(context, facts)


def job_address(endpoint: Endpoint, job_id: str) -> str:
    """The address of a job: the service shows it to whoever sends the endpoint's key.

    :param endpoint: that runs it.
    :param job_id: the job.
    """
    return below_api(GET_JOB, endpoint.api_location, {"job": job_id}) if endpoint.api_location else ""
