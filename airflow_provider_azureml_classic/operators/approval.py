"""Asking a person whether a model may be put live, with the evidence in front of him.

Airflow keeps one question for each task of a run. After a retry or a clear it shows that one, however different the
evidence is by now (seen on 3.3.2); so what is on record is compared with what this attempt would ask, and another
question is refused. A new DAG run always asks anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, ServiceUnavailable
from airflow_provider_azureml_classic.hooks import jittered
from airflow_provider_azureml_classic.links import BatchJobLink, EndpointHelpLink, PortalLink, push_help, push_link
from airflow_provider_azureml_classic.memory import TaskMemory
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator, airflow_errors
from airflow_provider_azureml_classic.operators.running import job_address
from airflow_provider_azureml_classic.protocol.moments import to_utc
from airflow_provider_azureml_classic.protocol.operations import portal_job
from airflow_provider_azureml_classic.protocol.values import Resource
from airflow_provider_azureml_classic.retraining.approval import APPROVED, REJECTED
from airflow_provider_azureml_classic.retraining.freshness import Window, window_in_path
from airflow_provider_azureml_classic.retraining.jobs import JobTicket, trained_model
from airflow_provider_azureml_classic.retraining.placing import Target, find_target
from airflow_provider_azureml_classic.retraining.question import ModelSide, Question, evidence_digest

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_azureml_classic.protocol.jobs import Job
    from airflow_provider_azureml_classic.protocol.values import Endpoint

T = TypeVar("T")
#: XCom of what this attempt asked: the operator that goes on with the answer is another one.
QUESTION_KEY = "azureml_classic_question"
#: Key in Airflow's task state store, which lasts over a clear.
REHEARSAL_KEY = "azureml_classic_rehearsal"
#: How long to wait for an answer, unless that is set.
RESPONSE_TIMEOUT = timedelta(days=2)
#: How long a service that is away is waited for, in all; seconds of the first pause, and of the longest one.
PATIENCE, _FIRST_PAUSE, _LONGEST_PAUSE = timedelta(minutes=30), 5.0, 60.0


class ApproveModelOperator(AzureMLClassicOperator, ApprovalOperator):
    """Asks a person whether a job's model may be put live, and shows what is known of it.

    The question shows both models with their digests, what the data contract said of the training file, the gate's
    tables, a rehearsal on real calls, and links to endpoint and job. It stands in Airflow's list of
    required actions; meanwhile the task holds no worker slot.

    Returns a dict, which is in XCom however the answer was: ``decision`` (``approved`` or ``rejected``), ``by`` (name;
    ``None`` if nobody answered in time), ``at``, ``timed_out``, ``evidence`` (SHA-256 of the text that was shown),
    ``asked_in``, ``model`` (digests), ``live`` (digests), ``web_service_id``, ``endpoint``, ``job_id``. Give it to
    :class:`UpdateTrainedModelOperator` as ``approval``: it puts no other model live than the one that was approved, and
    receipt, asset event and the history in the portal tell who approved it.

    A rejection ends the task as a success and skips the tasks directly downstream, whatever their trigger rules.

    The other parameters are those of Airflow's ``ApprovalOperator``: ``defaults``, what counts as the answer if there
    is none in time (``Reject``, unless set), ``response_timeout`` (two days; ``None``: for ever), ``assigned_users``,
    and ``notifiers`` (for example ``ModelUpdatedNotifier``), of which one that fails is logged.

    There are no retries, whatever ``default_args`` say: each would ask again. So a service that is away is waited for
    in here, for half an hour, before anybody is asked. An attempt whose evidence is another one
    than that of an earlier question of this DAG run fails, as Airflow would show the earlier one.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint whose model would be replaced. (templated)
    :param job: what :class:`BatchExecutionOperator` returned. (templated)
    :param gate: what :class:`ModelQualityGate` returned; without it the question says that there was none. (templated)
    :param data_check: what :class:`DataCheckOperator` returned; by default what the job itself found. (templated)
    :param rehearsal: what a rehearsal on real calls said, as a mapping of names to figures; by default the server is
        asked for one, where it offers that and the endpoint keeps calls. (templated)
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param subject: the line above the question; by default it names model and endpoint. (templated)
    :param note: Markdown that the question begins with, for example what to look at. (templated)
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "web_service",
        "endpoint",
        "job",
        "gate",
        "data_check",
        "rehearsal",
        "resource",
        "subject",
        "note",
    )
    template_fields_renderers = {"job": "json", "gate": "json", "note": "md"}  # noqa: RUF012
    operator_extra_links = (BatchJobLink(), EndpointHelpLink(), PortalLink())
    ui_color = "#e0f2fe"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        job: Mapping[str, Any],
        gate: Mapping[str, Any] | None = None,
        data_check: Mapping[str, Any] | None = None,
        rehearsal: Mapping[str, Any] | None = None,
        resource: str | None = None,
        subject: str = "",
        note: str = "",
        **kwargs: Any,
    ) -> None:
        if "body" in kwargs:
            raise ValueError(
                "ApproveModelOperator makes the body of its question itself; put a text of your own in note."
            )
        kwargs = {"defaults": "Reject", "response_timeout": RESPONSE_TIMEOUT, **kwargs, "retries": 0}
        super().__init__(subject=subject, **kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.job = job
        self.gate = gate
        self.data_check = data_check
        self.rehearsal = rehearsal
        self.resource = resource
        self.note = note

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """As Airflow's, without retries: the scheduler reads those of a mapped task from here.

        :param kwargs: of the operator, without those that are mapped.
        """
        template = super().partial(**kwargs)
        template.kwargs["retries"] = 0
        return template

    def execute(self, context: Context) -> Any:
        """Ask; what comes of it is read in :meth:`execute_complete`."""
        with airflow_errors():
            question, facts = self._waited_out(lambda: self._question(context))
        self.subject = self.subject or question.subject
        self.body = question.body
        self._compare_with_record(context)
        facts["evidence"] = evidence_digest(self.subject, self.body)
        context["ti"].xcom_push(key=QUESTION_KEY, value=facts)
        self._announce(context, question)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Take the answer.

        :param context: Airflow's task context.
        :param event: who answered what and when, or that nobody did.
        """
        ti = context["ti"]
        asked = ti.xcom_pull(key=QUESTION_KEY, task_ids=ti.task_id, map_indexes=ti.map_index)
        if "error" not in event:
            if not asked:
                raise AirflowFailException("The question is no longer on record; trigger a new DAG run.")
            decision = {**asked, **_answer(event, self.APPROVE)}
            # After a rejection Airflow keeps nothing of what the task returns.
            ti.xcom_push(key="return_value", value=decision)
            who = f"by {decision['by']}" if decision["by"] else "by nobody: this is the default at the time-out"
            self.log.info("%s %s. Shown was what has the SHA-256 %s.", decision["decision"], who, decision["evidence"])
        super().execute_complete(context, event)
        return decision

    @property
    def _default(self) -> str:
        return " or ".join(self.defaults or ())

    def _waited_out(self, call: Callable[[], T]) -> T:
        """The result of calls to the service, made again while it is away."""
        ends, pause = time.monotonic() + PATIENCE.total_seconds(), _FIRST_PAUSE
        while True:
            try:
                return call()
            except AzureMLClassicError as error:
                if not error.retryable or time.monotonic() + pause > ends:
                    raise
                self.log.warning("Nobody was asked yet, as the service is away; it is asked again: %s", error)
            self.ending.sleep(jittered(pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _question(self, context: Context) -> tuple[Question, dict[str, Any]]:
        """What is asked, and what the answer has to say it is about."""
        job, ticket = self.hook.finished_job(self.job), JobTicket.from_json(self.job)
        client = self.hook.client
        target = client.perform(find_target(client, self.web_service, self.endpoint, self.resource))
        self._check_evidence(ticket)
        _, trainer = self.hook.find(ticket.web_service, ticket.endpoint)
        push_help(context, target.endpoint)
        push_link(context, BatchJobLink, job_address(trainer, ticket.job_id))
        ti = context["ti"]
        live = target.resource.digests
        facts = {
            "web_service_id": target.service.id,
            "endpoint": target.endpoint.name,
            "resource": target.resource.name,
            "job_id": ticket.job_id,
            "model": job.model.to_json() if job.model else None,
            "live": live.to_json() if live else None,
            "asked_in": f"{ti.dag_id}/{ti.run_id}/{ti.task_id}",
        }
        rehearsal = self._rehearsed(context, target, job)
        return self._shown(job, target, trainer, rehearsal), facts

    def _rehearsed(self, context: Context, target: Target, job: Job) -> Mapping[str, Any] | None:
        """The figures of a rehearsal; those of an earlier attempt with the same two models, as calls go on coming."""
        if self.rehearsal is not None:
            return self.rehearsal
        live, memory = target.resource.digests, TaskMemory(context, REHEARSAL_KEY)
        models = [one.to_json() if one else None for one in (job.model, live)]
        before = memory.recall()
        if before and before["models"] == models:
            return dict(before["figures"])
        new = Resource(target.resource.name, self.hook.readable(trained_model(job, self.job)))
        try:
            file = job.model.file if job.model else None
            figures = self.hook.client.rehearse_update(target.endpoint, new, model_file=file).to_json()
        except AzureMLClassicError as error:
            if isinstance(error, ServiceUnavailable) and error.status is None:
                raise  # not even an answer: the service is away, and the question would lack a part
            self.log.info("There is no rehearsal: %s", error)
            return None
        memory.keep({"models": models, "figures": figures})
        return dict(figures)

    def _shown(self, job: Job, target: Target, trainer: Endpoint, rehearsal: Mapping[str, Any] | None) -> Question:
        resource, model = target.resource, trained_model(job, self.job)
        window = Window.from_json(self.job.get("window")) or window_in_path(model)
        links = {
            "The endpoint in the portal": PortalLink.of(target.endpoint),
            "Its help page": target.endpoint.help_location,
            "The job in the portal": portal_job(trainer.help_location, job.id),
        }
        return Question(
            target.service.name,
            target.endpoint.name,
            job.id,
            ModelSide(job.model, model.location, window.end if window else None),
            ModelSide(resource.digests, resource.location.location if resource.location else None, resource.window_end),
            self.data_check or job.data_check,
            self.gate,
            rehearsal,
            links,
            self.note,
        )

    def _check_evidence(self, ticket: JobTicket) -> None:
        """Refuse a gate of another job: who agrees must not look at another model's figures."""
        other = (self.gate or {}).get("job_id", ticket.job_id)
        if other != ticket.job_id:
            raise ValueError(f"gate is about the model of job {other}, but job is {ticket.job_id}.")

    def _compare_with_record(self, context: Context) -> None:
        """Fail if Airflow would show another question than this one."""
        # The module's attribute is set when a task starts.
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import CreateHITLDetailPayload

        shown: Any = task_runner.SUPERVISOR_COMMS.send(
            CreateHITLDetailPayload(
                ti_id=context["ti"].id,
                options=self.options,
                subject=self.subject,
                body=self.body,
                defaults=self.defaults,
                multiple=False,
                params=self.serialized_params,
                assigned_users=cast(Any, self.assigned_users or []),
            )
        )
        if (shown.subject, shown.body, shown.defaults) != (self.subject, self.body, self.defaults):
            raise AirflowFailException(
                "Airflow keeps one question for each task of a DAG run, and the one on record was asked with other "
                "evidence: it would be shown again, and the answer would be about what is no longer true. Trigger a "
                "new DAG run."
            )

    def _announce(self, context: Context, question: Question) -> None:
        """Tell of the question; who is not told finds it in Airflow's list."""
        try:
            link = self.generate_link_to_ui_from_context(context=context)
        except ValueError:
            link = ""
        answer = f" Without an answer within {self.response_timeout}: {self._default}." if self.response_timeout else ""
        text = " ".join(filter(None, (f"{self.subject} {question.summary}{answer}", link)))
        for notifier in self.notifiers:
            try:
                notifier({**context, "announcement": text})
            except Exception as error:
                self.log.warning("The question was not announced: %s: %s", type(error).__name__, error)
        # They were called; the rest is Airflow's.
        self.notifiers = []


def _answer(event: Mapping[str, Any], approve: str) -> dict[str, Any]:
    user = event.get("responded_by_user") or {}
    timed_out = bool(event.get("timedout"))
    return {
        "decision": APPROVED if event["chosen_options"] == [approve] else REJECTED,
        "by": None if timed_out else user.get("name") or user.get("id"),
        "at": to_utc(event["responded_at"]).isoformat(),
        "timed_out": timed_out,
    }
