"""Retraining many endpoints of a scoring web service in one task: waves, in the worker or in the triggerer, and what is
left for the next attempt.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import AssetAlias, ObjectStoragePath, conf
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.assets import (
    event_extra,
    has_partitions,
    max_partition_keys,
    record_partitions,
    spellings,
)
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.fleet import report
from airflow_provider_azureml_classic.fleet.engine import Engine, Means, Submitter
from airflow_provider_azureml_classic.fleet.options import MAX_ACTIVE_JOBS, Options
from airflow_provider_azureml_classic.fleet.rows import (
    BAD,
    Item,
    Outcome,
    Row,
    allowed,
    chunks,
    next_wave,
    parse_items,
)
from airflow_provider_azureml_classic.fleet.trainers import Trainers
from airflow_provider_azureml_classic.memory import FleetMemory, FleetXComs, part_key
from airflow_provider_azureml_classic.operators.base import (
    DEFAULT_ENDPOINT,
    airflow_errors,
    attempt_ends,
    attempt_over,
    job_purpose,
    training_window,
    warn_of_moment,
)
from airflow_provider_azureml_classic.operators.ending import ended_by_a_person, ends
from airflow_provider_azureml_classic.operators.placing import UpdatingOperator
from airflow_provider_azureml_classic.protocol.data_check import check_options
from airflow_provider_azureml_classic.protocol.jobs import INPUT, MODEL_OUTPUT, JobRequest
from airflow_provider_azureml_classic.protocol.swagger import Names
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from airflow_provider_azureml_classic.retraining.customers import model_place, own_place

if TYPE_CHECKING:
    from airflow.sdk import Context

#: Asset events of one task. Airflow records them in the one call with which a task reports its success: with 1,000 new
#: assets that call took 10 s, was repeated by the worker after 5, and failed the task (seen on 3.3.2 with SQLite).
MAX_ASSET_EVENTS = 100
#: Instead of an endpoint's name: the asset of all endpoints of a web service together.
ALL_ENDPOINTS = "*"


class RetrainFleetOperator(UpdatingOperator):
    """Retrains many endpoints of a scoring web service: add those that are missing, train, update, prove.

    One task instead of thousands: it keeps at most ``max_active_jobs`` in flight and updates each endpoint as soon as
    its model exists. The state of each endpoint is kept in the task state store, and each job's id before the job is
    started, so that a retry, a restart, or clearing a task that did not succeed goes on with what is left; no job is
    started twice. Marking the task failed or success, clearing it, and its time-outs cancel the jobs in flight; a
    worker that is shut down leaves them to the retry. Clearing a task that has succeeded retrains everything.

    An endpoint ends *updated*, *kept* (its live model is newer, or the new one is not good enough), *failed*,
    *rolled back* (the update could not be proved and the previous model was put back) or *untouched*.

    Returns a dict, which is in XCom however the task ends: ``total``, ``counts`` by outcome, ``rows`` (``endpoint``,
    ``outcome``, ``reason``, ``job_id``; at most 100, those that need attention first), ``rows_left_out``, ``report``.

    Each update is an event of the endpoint's asset, if the task succeeds; more than ``max_asset_events`` are one event
    of the asset whose endpoint is ``*``.

    :param training_service: name or id of the web service that trains. (templated)
    :param scoring_service: name or id of the web service whose endpoints are updated. (templated)
    :param items: the endpoints: a list, an upstream task's output, or a function of the task's context. Each item is a
        mapping of ``endpoint``, ``inputs`` (a reference, or references by input name) and, optionally,
        ``global_parameters``, ``window_start`` and ``window_end``. A path may begin with ``{folder}/``, see
        :class:`~.batch.BatchExecutionOperator`. (templated)
    :param training_endpoint: endpoint of the training service. Where customers are kept apart, each item is trained at
        the endpoint of its own name instead, with its key and in its folder. (templated)
    :param waves: sizes of the first waves: ``[1, 10]`` tries one endpoint, then ten, then all others. A number makes
        all waves that large. By default there is one wave.
    :param failure_threshold: how many endpoints may fail, as a number, or as a share below 1 (of the fleet, and of each
        wave). A wave with more failures is the last one, and the task fails.
    :param max_active_jobs: jobs in flight at most; the cloud service ran 40 at once for one endpoint.
    :param data_check: what to do with data that are not like those of the live model, see
        :class:`~.batch.BatchExecutionOperator`.
    :param data_limits: how far its rules go, see :class:`~.data_check.DataCheckOperator`.
    :param thresholds: limits by metric of a job's evaluation: ``{"AUC": {"min": 0.9}}``; a model outside them is not
        put live. (templated)
    :param max_worse: by metric, how much worse than the endpoint's live model the new one may be, judged as by
        :class:`~.gate.ModelQualityGate`. (templated)
    :param on_undecided: what to do where the rows do not tell: ``pass``, ``keep`` or ``fail``, which ends an endpoint
        *kept* as well; by default as the gate does.
    :param allow_training_metrics: with ``thresholds``, put a model live, too, whose metrics are those of its training
        rows, because there were too few to hold any out (``Rows Held Out`` of the evaluation is 0).
    :param only_if_newer: keep a live model that was trained on newer data.
    :param unknown_window: as of ``UpdateTrainedModelOperator``; an endpoint that is refused counts as failed.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param model_output: the jobs' output that is the trained model; by default the one that the service says, else
        ``output1``.
    :param model_path: path of the models; by default
        ``models/{service}/{endpoint}/{window_end}-{token}.ilearner``, where each job has a token of its own, and below
        the customer's folder where customers are kept apart. (templated)
    :param input_name: input that a reference without a name is for; by default the one that the service says, else
        ``input1``.
    :param window_start: start of the training data, ISO 8601; by default the DAG run's. (templated)
    :param window_end: end of the training data, ISO 8601; by default the DAG run's. (templated)
    :param rehearsal: as of ``UpdateTrainedModelOperator``; an endpoint that cannot be, and must be, counts as failed.
    :param max_change: what of an endpoint's answers may change, or it keeps its model, see there. (templated)
    :param proof: level to reach: ``resource``, ``version``, ``score``, ``content``, or ``strongest`` that the
        service offers.
    :param proof_timeout: seconds allowed from PATCH to proof, for each endpoint.
    :param on_failure: when there is no proof in time, ``rollback`` puts the previous model back, ``keep`` does not.
    :param report_path: folder for ``fleet.csv`` and ``fleet.html``: a path or URL of Airflow's object storage.
        (templated)
    :param deferrable: run in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls of a job, at most.
    :param job_timeout: seconds that one job may take from its start; ``None`` for no limit.
    :param fleet_timeout: seconds that the fleet may take, retries included; ``None`` for no limit.
    :param emit_asset: record updates as asset events, through the alias of all endpoints unless ``outlets`` names an
        alias or an endpoint's asset.
    :param max_asset_events: updates that have an event each, at most.
    :param assets: which events: ``both`` those of the endpoints and, where ``outlets`` has the asset of the web
        service, partitions of that one; or ``partitions`` alone. Of these a task has at most 500: map a larger fleet.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "training_service",
        "scoring_service",
        "items",
        "training_endpoint",
        "thresholds",
        "max_worse",
        "max_change",
        "resource",
        "model_path",
        "window_start",
        "window_end",
        "report_path",
    )
    template_fields_renderers = {"items": "json", "thresholds": "json", "max_worse": "json"}  # noqa: RUF012
    ui_color = "#e0e7ff"

    def __init__(
        self,
        *,
        training_service: str,
        scoring_service: str,
        items: Sequence[Mapping[str, Any]] | Callable[[Context], Iterable[Mapping[str, Any]]] | Any,
        training_endpoint: str = DEFAULT_ENDPOINT,
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
        data_check: Literal["warn", "fail", "off"] = "warn",
        data_limits: Mapping[str, float] | None = None,
        max_worse: Mapping[str, float | str] | None = None,
        on_undecided: Literal["pass", "keep", "fail"] | None = None,
        allow_training_metrics: bool = False,
        only_if_newer: bool = True,
        unknown_window: Literal["replace", "refuse"] | None = None,
        resource: str | None = None,
        model_output: str | None = None,
        model_path: str | None = None,
        input_name: str | None = None,
        window_start: str | None = None,
        window_end: str | None = None,
        rehearsal: Literal["auto", "require", "off"] = "auto",
        max_change: float | Mapping[str, float] | None = None,
        proof: Literal["strongest", "resource", "version", "score", "content"] = "strongest",
        proof_timeout: float = 120.0,
        on_failure: Literal["keep", "rollback"] = "rollback",
        waves: Sequence[int] | int = (),
        failure_threshold: float = 0,
        max_active_jobs: int = MAX_ACTIVE_JOBS,
        report_path: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        job_timeout: float | None = None,
        fleet_timeout: float | None = 24 * 3600.0,
        max_asset_events: int = MAX_ASSET_EVENTS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training_service = training_service
        self.scoring_service = scoring_service
        self.items = items
        self.training_endpoint = training_endpoint
        self.thresholds = thresholds
        self.data_check = data_check
        self.data_limits = data_limits
        self.max_worse = max_worse
        self.on_undecided = on_undecided
        self.allow_training_metrics = allow_training_metrics
        self.only_if_newer = only_if_newer
        self.unknown_window = unknown_window
        self.resource = resource
        self.model_output = model_output
        self.model_path = model_path
        self.input_name = input_name
        self.window_start = window_start
        self.window_end = window_end
        self.rehearsal = rehearsal
        self.max_change = max_change
        self.proof = proof
        self.proof_timeout = proof_timeout
        self.on_failure = on_failure
        self.waves = waves
        self.failure_threshold = failure_threshold
        self.max_active_jobs = max_active_jobs
        self.report_path = report_path
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.job_timeout = job_timeout
        self.fleet_timeout = fleet_timeout
        self.max_asset_events = max_asset_events
        self._engine: Engine | None = None
        self._resolved: tuple[WebService, Endpoint, WebService] | None = None
        self._ports: tuple[str, str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Take up what an earlier attempt left, then run wave after wave."""
        with airflow_errors(), ends(self.ending, partial(self._ended, context), self._cancel_jobs):
            items, memory = self._items(context), FleetMemory(context)
            self._sizes(len(items))
            earlier, head = memory.recall()
            rows = _rows(items, earlier)
            if earlier:
                ended = sum(row.outcome is not None for row in rows)
                self.log.info("An earlier attempt finished %d of %d endpoints; the others follow.", ended, len(rows))
            deadline = head.get("deadline") if head.get("epoch") == memory.epoch else None
            if deadline is None and self.fleet_timeout is not None:
                deadline = time.time() + self.fleet_timeout
            self._options(deadline)
            memory.begin(rows, epoch=memory.epoch, deadline=deadline)
            return self._advance(context, memory, items, rows, 1, deadline)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on after the triggerer has run a wave; what became of it is read here, the event only ends the wait.

        :param context: Airflow's task context.
        :param event: ``wave``, ``parts`` and ``deadline``.
        """
        with airflow_errors(), ends(self.ending, partial(self._ended, context), self._cancel_jobs):
            memory = FleetMemory(context)
            memory.recall()
            deadline = event.get("deadline")
            rows = FleetXComs.of(context["ti"]).read(event["parts"])
            memory.begin(rows, epoch=memory.epoch, deadline=deadline)
            number = max((row.wave for row in rows), default=0)
            wave = [row for row in rows if row.wave == number]
            if left := [row for row in wave if row.job_id and not row.outcome]:
                if limit := attempt_over(self, context):
                    raise AirflowException(
                        f"{len(left)} of the {len(wave)} endpoints of wave {number} had not ended after {limit}; their "
                        "jobs in flight were cancelled. Another attempt goes on with what is left."
                    )
                # Ended by an error that the trigger could not mend: if it lasts, the options cannot be made either.
                self._defer(context, rows, number, self._options(deadline))
            if self._is_over(wave):
                return self._finish(context, memory, rows, number)
            return self._advance(context, memory, self._items(context), rows, number + 1, deadline)

    def _ended(self, context: Context) -> str:
        who, jobs = ended_by_a_person(context["ti"]), len(self._engine.in_flight) if self._engine else 0
        if who is None:
            return (
                f"The task's process was ended from outside, and not by a person: the {jobs} jobs in flight go on, and "
                "the task's next attempt takes them up."
            )
        self._cancel_jobs()
        return f"The task was {who}, so the {jobs} jobs in flight were cancelled."

    def _cancel_jobs(self) -> None:
        if self._engine is None:
            return
        trainers = self._trainers(self.hook.client)
        self.hook.client.perform(trainers.cancel_all(list(self._engine.in_flight.values())))

    # -- what is asked for ---------------------------------------------------------------------------------------------

    def _items(self, context: Context) -> list[Item]:
        check_options(self.data_check, self.data_limits)
        window = training_window(context, self.window_start, self.window_end)
        mappings = self.items(context) if callable(self.items) else self.items
        if isinstance(mappings, str | Mapping) or not isinstance(mappings, Iterable):
            raise ValueError(f"items must be a list of mappings, not {type(mappings).__name__}.")
        items = parse_items(mappings, window, self._port_names()[0])
        if not self.window_end and any(item.window is window for item in items):
            warn_of_moment(self, context)
        if self.emit_asset and has_partitions(self.outlets) and len(items) > (most := max_partition_keys()):
            raise ValueError(
                f"There are {len(items)} items, and each updated endpoint is a partition of the web service's asset; a "
                f"task records {most} at most. Map the task over parts of the items, or raise Airflow's "
                "[workers] execution_api_timeout."
            )
        default = self._services()[2].default_endpoint_name
        if any(item.endpoint in (default, DEFAULT_ENDPOINT) for item in items):
            raise rejection(
                "DefaultEndpointReadOnly",
                f"The default endpoint of {self.scoring_service!r} is among the items; its model cannot be replaced.",
            )
        return items

    def _services(self) -> tuple[WebService, Endpoint, WebService]:
        """Training service, its endpoint, scoring service; asked for once."""
        if self._resolved is None:
            training, trainer = self.hook.find(self.training_service, self.training_endpoint)
            scoring = self.hook.client.find_web_service(self.scoring_service)
            self.check_outlets(scoring)
            if scoring.id == training.id:
                raise ValueError(f"training_service and scoring_service are the same, {scoring.name!r}.")
            if trainer.folder and self.training_endpoint != DEFAULT_ENDPOINT:
                raise ValueError(
                    f"training_endpoint is {self.training_endpoint!r}, but {training.name!r} keeps customers apart: "
                    "each item is trained at the endpoint of its own name. Leave training_endpoint out."
                )
            self._resolved = training, trainer, scoring
        return self._resolved

    def _port_names(self) -> tuple[str, str]:
        """Names of the training service's input and of its output that is the model; asked for once, if at all."""
        if self._ports is None:
            names = Names(self.input_name, self.model_output)
            if names.input is None or names.output is None:
                service = self.hook.client.names(self._services()[1])
                names = Names(names.input or service.input, names.output or service.output)
            self._ports = names.input or INPUT, names.output or MODEL_OUTPUT
        return self._ports

    def _options(self, deadline: float | None) -> Options:
        training, trainer, scoring = self._services()
        options = Options(
            training_id=training.id,
            training_endpoint=trainer.name,
            paired=bool(trainer.folder),
            scoring_id=scoring.id,
            resource=self.resource,
            model_output=self._port_names()[1],
            max_active_jobs=self.max_active_jobs,
            poll_interval=self.poll_interval,
            job_timeout=self.job_timeout,
            deadline=deadline,
            thresholds=dict(self.thresholds or {}),
            max_worse=dict(self.max_worse or {}),
            on_undecided=self.on_undecided,
            allow_training_metrics=self.allow_training_metrics,
            only_if_newer=self.only_if_newer,
            unknown_window=self.unknown_window,
            rehearsal=self.rehearsal,
            max_change=self.max_change,
            proof=self.proof,
            proof_timeout=self.proof_timeout,
            on_failure=self.on_failure,
        )
        options.check()
        return options

    # -- waves ---------------------------------------------------------------------------------------------------------

    def _sizes(self, total: int) -> list[int]:
        waves = self.waves
        sizes = [waves] * (-(-total // max(1, waves))) if isinstance(waves, int) else list(waves)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"waves is {waves!r}; it must be a number of 1 or more, or a list of such numbers.")
        if not 0 <= self.failure_threshold < math.inf:
            raise ValueError(f"failure_threshold is {self.failure_threshold!r}; it must be a number of 0 or more.")
        return sizes

    def _may_fail(self, rows: Sequence[Row]) -> int:
        return allowed(self.failure_threshold, len(rows))

    def _is_over(self, rows: Sequence[Row]) -> bool:
        return sum(row.outcome in BAD for row in rows) > self._may_fail(rows)

    def _advance(
        self,
        context: Context,
        memory: FleetMemory,
        items: list[Item],
        rows: list[Row],
        number: int,
        deadline: float | None,
    ) -> dict[str, Any]:
        """Run wave ``number`` and those after it; deferred, the worker's part of one."""
        options = self._options(deadline)
        while wave := next_wave(rows, self._sizes(len(rows)), number):
            self.log.info("Wave %d: %d of %d endpoints.", number, len(wave), len(rows))
            asyncio.run(self._submit(wave, items, memory))
            if any(row.job_id and not row.outcome for row in wave):
                if self.deferrable:
                    self._defer(context, rows, number, options)
                asyncio.run(self._run_here(memory, rows, wave, options))
            if self._is_over(wave):
                break
            number += 1
        return self._finish(context, memory, rows, number)

    async def _submit(self, wave: Sequence[Row], items: Sequence[Item], memory: FleetMemory) -> None:
        """Give each row of a wave a job that is remembered and not started."""

        def save() -> None:
            memory.keep()
            self.ending.check()

        async with self.hook.worker_client() as client:
            submitter = Submitter(client, self._trainers(client), self._request, memory.epoch)
            by_name = {item.endpoint: item for item in items}
            await submitter.prepare(wave, by_name, save, self._may_fail(wave))
        self.log.info("Submitted %d jobs; took up %d.", submitter.submitted, len(wave) - submitter.submitted)

    def _trainers(self, client: Verbs) -> Trainers:
        options = self._options(None)
        shared = None if options.paired else self._services()[1]
        return Trainers(client, options, shared, partial(self.log.warning, "%s"))

    def _request(self, item: Item, trainer: Endpoint) -> JobRequest:
        def place(value: Any) -> Any:
            return own_place(value, trainer, item.endpoint)

        path = model_place(trainer, self._services()[0].id, item.endpoint, item.window, self.model_path)
        return JobRequest(
            {name: self.hook.reference(place(value)) for name, value in item.inputs.items()},
            {self._port_names()[1]: self.hook.reference(path)},
            {name: place(value) for name, value in item.global_parameters.items()},
            job_purpose(
                item.endpoint,
                self._services()[2].id,
                item.window,
                item.is_declared or bool(self.window_end),
                self.data_check,
                self.data_limits,
            ),
        )

    async def _run_here(self, memory: FleetMemory, rows: list[Row], wave: list[Row], options: Options) -> None:
        async def save() -> None:
            memory.keep()

        async with self.hook.worker_client() as client:
            means = Means(client, self.hook.readable, save, partial(self.log.info, "%s"), lambda: self.ending.asked)
            self._engine = Engine(means, options, rows, wave, self._may_fail(wave))
            await self._engine.run()
        self.ending.check()

    def _defer(self, context: Context, rows: list[Row], number: int, options: Options) -> None:
        # Only what defers pays for the triggers: reading a DAG file would take a twentieth longer with them.
        from airflow_provider_azureml_classic.triggers import FleetTrigger

        ti, parts = context["ti"], list(chunks(rows))
        for part, content in parts:
            ti.xcom_push(key=part_key(part), value=[row.to_json() for row in content])
        self.defer(
            trigger=FleetTrigger(
                azureml_classic_conn_id=self.azureml_classic_conn_id,
                key=dict(FleetXComs.of(ti).key),
                parts=len(parts),
                wave=number,
                may_fail=self._may_fail([row for row in rows if row.wave == number]),
                options=replace(options, attempt_ends=attempt_ends(self, context)).to_json(),
            ),
            method_name="execute_complete",
        )

    # -- the end -------------------------------------------------------------------------------------------------------

    def _finish(self, context: Context, memory: FleetMemory, rows: list[Row], number: int) -> dict[str, Any]:
        for row in rows:
            if row.outcome is None:
                row.end(Outcome.UNTOUCHED, f"Wave {number} was the last one, because too many of its endpoints failed.")
        memory.keep()
        self.log.info("%s\n%s", report.summary(rows), report.as_text(rows))
        result = {**report.as_xcom(rows), "report": self._report(rows)}
        wave = [row for row in rows if row.wave == number]
        for part, where in ((wave, f"wave {number}"), (rows, "the fleet")):
            if self._is_over(part):
                # What a failed task returns is lost, so it is pushed before.
                context["ti"].xcom_push(key="return_value", value=result)
                raise AirflowException(report.failure(part, self._may_fail(part), where))
        if self.emit_asset:
            self._record(context, rows)
        if self.deferrable:
            FleetXComs.of(context["ti"]).delete(rows)
        memory.forget()
        return result

    def _report(self, rows: Sequence[Row]) -> str | None:
        if not self.report_path:
            return None
        folder = ObjectStoragePath(self.report_path)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "fleet.csv").write_text(report.as_csv(rows), encoding="utf-8")
        page = folder / "fleet.html"
        page.write_text(report.as_html(rows, f"{self.dag_id}, {self.task_id}"), encoding="utf-8")
        return str(page)

    def _record(self, context: Context, rows: Sequence[Row]) -> None:
        """An event for each endpoint that was updated, or one for all where that would be too many."""
        events, updated = context.get("outlet_events"), [row for row in rows if row.outcome is Outcome.UPDATED]
        if events is None or not updated:
            return
        record_partitions(context, self.outlets, [row.endpoint for row in updated])
        if self.assets == "partitions":
            return
        extras = {row.endpoint: event_extra(row.receipt) for row in updated if row.receipt}
        if len(extras) > self.max_asset_events:
            self.log.info("More than %d endpoints were updated: one asset event stands for all.", self.max_asset_events)
            extras = {ALL_ENDPOINTS: {"web_service": self._services()[2].name, "updated": len(updated)}}
        for endpoint, extra in extras.items():
            service = self._services()[2]
            assets = spellings(self.hook.settings, service.name, service, Endpoint(endpoint))
            uris = {asset.uri for asset in assets}
            for outlet in self.outlets:
                if isinstance(outlet, AssetAlias):
                    events[outlet].add(assets[0], extra=extra)
                elif getattr(outlet, "uri", None) in uris:
                    events[outlet].extra.update(extra)


def _rows(items: Sequence[Item], earlier: Sequence[Row]) -> list[Row]:
    """The rows in the order of the items; what earlier attempts left unfinished is open again."""
    before = {row.endpoint: row for row in earlier}
    rows = [before.get(item.endpoint) or Row(item.endpoint) for item in items]
    for row, item in zip(rows, items, strict=True):
        row.window = item.window.to_json()
        row.open_again()
    return rows
