"""Submits the jobs of a wave, remembers them, and starts none: a job that is not started does nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.retries import jittered
from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, NotFound, ServiceUnavailable
from airflow_provider_azureml_classic.fleet.engine import CALLS
from airflow_provider_azureml_classic.fleet.rows import BAD, CHUNK, Item, Outcome, Row
from airflow_provider_azureml_classic.fleet.update import ended_badly
from airflow_provider_azureml_classic.protocol.jobs import JobRequest, JobStatus
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from airflow_provider_azureml_classic.retraining.freshness import model_path

#: A submission whose answer is lost may be repeated, because the lost job never starts: pauses in seconds.
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


class Submitter:
    """Gives each row of a wave a job: that of an earlier attempt if it can still end well, else a new one.

    :param client: open, of the workspace.
    :param trainer: the endpoint that runs the jobs.
    :param reference: completes a place as the user gives it.
    :param paths: template of the models' paths.
    :param model_output: the job's output that is the model.
    :param epoch: of this attempt; see :mod:`..memory`.
    """

    def __init__(
        self,
        client: AsyncClient,
        trainer: Endpoint,
        reference: Callable[[Any], BlobReference],
        paths: str,
        model_output: str,
        epoch: int,
    ) -> None:
        self._client, self._trainer, self._reference = client, trainer, reference
        self._paths, self._model_output, self._epoch = paths, model_output, epoch
        self.submitted = 0

    async def prepare(
        self, wave: Sequence[Row], items: Mapping[str, Item], save: Callable[[], object], may_fail: int
    ) -> None:
        """Submit what is to be submitted, and remember it part by part.

        :param wave: rows to prepare.
        :param items: by endpoint.
        :param save: keeps the rows.
        :param may_fail: how many may be refused before no further one is submitted.
        :raises ServiceUnavailable: the service does not answer; what was submitted is remembered.
        """
        for start in range(0, len(wave), CHUNK):
            part = wave[start : start + CHUNK]
            failed = sum(row.outcome in BAD for row in wave)
            if failed > may_fail:
                for row in part:
                    row.end(Outcome.UNTOUCHED, f"Not submitted: {failed} endpoints of its wave had failed.")
                continue
            try:
                await self._part(part, items)
            finally:
                save()

    async def _part(self, part: Sequence[Row], items: Mapping[str, Item]) -> None:
        calls = asyncio.Semaphore(CALLS)

        async def one(row: Row) -> None:
            async with calls:
                await self._one(row, items.get(row.endpoint))

        async with asyncio.TaskGroup() as group:
            for row in part:
                group.create_task(one(row))

    async def _one(self, row: Row, item: Item | None) -> None:
        if item is None:
            row.end(Outcome.UNTOUCHED, "It is not among the items any more.")
            return
        try:
            if row.job_id and await self._can_go_on(row):
                return
            row.job_id, row.started = None, None
            request = self._request(item)
            row.job_id, row.epoch = await self._submit(request), self._epoch
        except ServiceUnavailable:
            raise
        except (AzureMLClassicError, ValueError) as error:
            ended_badly(row, error)

    async def _can_go_on(self, row: Row) -> bool:
        """Whether the job of an earlier attempt is to be taken up. One that runs since before a clear is cancelled:
        whoever cleared the task may be cancelling it, too.
        """
        try:
            job = await self._client.get_job(self._trainer, str(row.job_id))
            if job.status is JobStatus.FINISHED:
                return True
            if row.epoch != self._epoch and not job.status.terminal:
                await self._client.cancel_job(self._trainer, job.id)
                return False
        except NotFound:
            return False
        return not job.status.terminal

    async def _submit(self, request: JobRequest) -> str:
        for pause in _PAUSES:
            try:
                job_id = await self._client.submit_job(self._trainer, request)
                break
            except ServiceUnavailable:
                await asyncio.sleep(jittered(pause))
        else:
            job_id = await self._client.submit_job(self._trainer, request)
        self.submitted += 1
        return job_id

    def _request(self, item: Item) -> JobRequest:
        place = model_path(self._paths, item.endpoint, item.window)
        return JobRequest(
            {name: self._reference(value) for name, value in item.inputs.items()},
            {self._model_output: self._reference(place)},
            dict(item.global_parameters),
        )
