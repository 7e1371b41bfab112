"""Running a fleet as a task: waves, in the worker or in the triggerer, and what is left for the next attempt."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, conf
from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.assets import event_extra, spellings
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError
from airflow_provider_azureml_classic.fleet import report
from airflow_provider_azureml_classic.fleet.engine import Engine, Means
from airflow_provider_azureml_classic.fleet.memory import FleetMemory, part_key
from airflow_provider_azureml_classic.fleet.rows import BAD, Outcome, Row, allowed, chunks, next_wave
from airflow_provider_azureml_classic.operators.base import airflow_errors, attempt_ends, attempt_over
from airflow_provider_azureml_classic.operators.placing import UpdatingOperator
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.triggers import FleetTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.fleet.engine import Engine
    from airflow_provider_azureml_classic.fleet.memory import FleetMemory
    from airflow_provider_azureml_classic.fleet.options import Options
    from airflow_provider_azureml_classic.fleet.rows import Item, Row
    from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService


#: Asset events of one task. Airflow records them in the one call with which a task reports its success: with 1,000 new
#: assets that call took 10 s, was repeated by the worker after 5, and failed the task (seen on 3.3.2 with SQLite).
MAX_ASSET_EVENTS = 100
#: In the place of an endpoint's name: the asset of all endpoints of a web service together.
ALL_ENDPOINTS = "*"


class FleetOperator(UpdatingOperator):
    """Runs wave after wave of a fleet, and remembers what has become of each endpoint.

    :param waves: sizes of the first waves, or of all.
    :param failure_threshold: how many endpoints may fail.
    :param max_active_jobs: jobs in flight at most.
    :param report_path: folder for the report.
    :param deferrable: run in the triggerer.
    :param poll_interval: seconds within which every job in flight is looked at.
    :param job_timeout: seconds that one job may take from its start.
    :param fleet_timeout: seconds that the fleet may take, retries included.
    :param max_asset_events: more updates than that are one event.
    """

    def __init__(
        self,
        *,
        waves: Sequence[int] | int = (),
        failure_threshold: float = 0,
        max_active_jobs: int = 40,
        report_path: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = 10.0,
        job_timeout: float | None = None,
        fleet_timeout: float | None = 24 * 3600.0,
        max_asset_events: int = MAX_ASSET_EVENTS,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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

    @abstractmethod
    def _items(self, context: Context) -> list[Item]:
        """What is to be retrained."""

    @abstractmethod
    def _services(self) -> tuple[WebService, Endpoint, WebService]:
        """Training service, its endpoint, scoring service."""

    @abstractmethod
    def _options(self, deadline: float | None) -> Options:
        """What holds for all endpoints."""

    @abstractmethod
    async def _submit(self, wave: Sequence[Row], items: Sequence[Item], memory: FleetMemory) -> None:
        """Give each row of a wave a job that is remembered and not started."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Take up what an earlier attempt left, then run wave after wave."""

        with airflow_errors():
            items, memory = self._items(context), FleetMemory(context)
            self._sizes(len(items))
            kept, head = memory.recall()
            rows = _rows(items, kept)
            if kept:
                done = sum(row.outcome is not None for row in rows)
                self.log.info("An earlier attempt has done %d of %d endpoints; the others follow.", done, len(rows))
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

        with airflow_errors():
            memory = FleetMemory(context)
            memory.recall()
            deadline = event.get("deadline")
            rows = _told(context, event["parts"])
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

    def on_kill(self) -> None:
        """Cancel the jobs in flight: the task was killed, cleared or timed out in the worker."""

        for job_id in list(self._engine.flying) if self._engine else []:
            try:
                self.hook.client.cancel_job(self._services()[1], job_id)
            except AzureMLClassicError as error:
                self.log.warning("Job %s could not be cancelled: %s", job_id, error)

    # -- waves ---------------------------------------------------------------------------------------------------------

    def _sizes(self, total: int) -> list[int]:
        waves = self.waves
        sizes = [waves] * (-(-total // max(1, waves))) if isinstance(waves, int) else list(waves)
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(f"waves is {waves!r}; it must be a number of 1 or more, or a list of such.")
        if not self.failure_threshold >= 0:
            raise ValueError(f"failure_threshold is {self.failure_threshold!r}; it must be 0 or more.")
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

    async def _run_here(self, memory: FleetMemory, rows: list[Row], wave: list[Row], options: Options) -> None:

        async def save() -> None:
            memory.keep()

        async with self.hook.worker_client() as client:
            means = Means(client, self.hook.readable, save, partial(self.log.info, "%s"))
            self._engine = Engine(means, options, rows, wave, self._may_fail(wave))
            await self._engine.run()

    def _defer(self, context: Context, rows: list[Row], number: int, options: Options) -> None:

        ti, parts = context["ti"], list(chunks(rows))
        for part, content in parts:
            ti.xcom_push(key=part_key(part), value=[row.to_json() for row in content])
        self.defer(
            trigger=FleetTrigger(
                azureml_classic_conn_id=self.azureml_classic_conn_id,
                key=_key(ti),
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
                row.end(Outcome.UNTOUCHED, f"Wave {number} was the last one, because too many of it failed.")
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
            _drop(context, len(list(chunks(rows))))
        memory.forget()
        return result

    def _report(self, rows: Sequence[Row]) -> str | None:
        if not self.report_path:
            return None
        from airflow.sdk import ObjectStoragePath

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
        told = {row.endpoint: event_extra(row.receipt) for row in updated if row.receipt}
        if len(told) > self.max_asset_events:
            self.log.info("More than %d endpoints: one asset event tells of all.", self.max_asset_events)
            told = {ALL_ENDPOINTS: {"web_service": self._services()[2].name, "updated": len(updated)}}
        for endpoint, extra in told.items():
            service = self._services()[2]
            assets = spellings(self.hook.settings, service.name, service, Endpoint(endpoint))
            uris = {asset.uri for asset in assets}
            for outlet in self.outlets:
                if isinstance(outlet, AssetAlias):
                    events[outlet].add(assets[0], extra=extra)
                elif getattr(outlet, "uri", None) in uris:
                    events[outlet].extra.update(extra)


def _rows(items: Sequence[Item], kept: Sequence[Row]) -> list[Row]:
    """The rows in the order of the items; what earlier attempts left unfinished is open again."""

    before = {row.endpoint: row for row in kept}
    rows = [before.get(item.endpoint) or Row(item.endpoint) for item in items]
    for row, item in zip(rows, items, strict=True):
        row.window = item.window.to_json()
        row.open_again()
    return rows


def _key(ti: Any) -> dict[str, Any]:
    """What an XCom of a task instance is found by."""
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}


def _told(context: Context, parts: int) -> list[Row]:
    """The rows as the trigger left them."""
    from airflow.sdk.execution_time.xcom import XCom

    kept = [XCom.get_one(key=part_key(number), **_key(context["ti"])) or [] for number in range(parts)]
    return [Row.from_json(data) for part in kept for data in part]


def _drop(context: Context, parts: int) -> None:
    """The task succeeded: nobody needs the rows between worker and trigger any more."""
    from airflow.sdk.execution_time.xcom import XCom

    for number in range(parts):
        XCom.delete(key=part_key(number), **_key(context["ti"]))
