"""A service of canned answers for the engine of a fleet."""

from __future__ import annotations

from collections import Counter
from typing import Any

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.retries import NO_RETRIES, persevere
from airflow_provider_azureml_classic.exceptions import ServiceUnavailable
from airflow_provider_azureml_classic.fleet.engine import Engine, Means
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import Row
from airflow_provider_azureml_classic.protocol.messages import Request, Response
from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService
from tests.support.tasks import refused

JOB = "1" * 32
TRAINER = Endpoint("default", "t", "w", api_location="https://ml.example/api", primary_key="k")
FAILED = Response.of_json({"StatusCode": "Failed", "Details": "The data is bad."})
RUNNING = Response.of_json({"StatusCode": "Running"})
BUSY, BROKEN = refused(503, "NoMoreResources", "Busy."), refused(500, "InternalError", "Broken.")
DONE = Response(204, {}, b"")


class Service(AsyncClient):
    """A client whose service has one endpoint ``e``, with canned answers.

    :param answers: by name of the operation, one for each call, the last one again and again.
    """

    def __init__(self, **answers: list[Response | Exception]) -> None:
        super().__init__("https://ml.example", "w", "t")
        self.calls: Counter[str] = Counter()
        self.lines: list[str] = []
        self.answers: dict[str, list[Response | Exception]] = {
            "get_endpoint": [Response.of_json(TRAINER.to_wire())],
            "get_web_service": [Response.of_json(WebService("s", "S").to_wire())],
            "list_endpoints": [Response.of_json([Endpoint("e", "s", "w").to_wire()])],
            "submit_job": [Response.of_json(JOB)],
            "start_job": [DONE],
            "get_job": [FAILED],
            "cancel_job": [DONE],
            **answers,
        }

    def answer(self, request: Request) -> Response | ServiceUnavailable:
        """The next answer."""
        name = request.operation.name
        self.calls[name] += 1
        assert self.calls[name] < 50, f"{name} is called again and again"
        answers = self.answers[name]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception) and not isinstance(answer, ServiceUnavailable):
            raise answer
        return answer  # type: ignore[return-value]

    async def drive(self, steps: Any) -> Any:
        """Answer a verb."""
        commands, outcome = persevere(steps, NO_RETRIES), None
        try:
            while True:
                outcome = self.answer(commands.send(outcome))  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value

    async def save(self) -> None:
        """Note that the rows were saved."""
        self.lines.append("saved")

    def is_polled(self) -> bool:
        """Whether a job has been polled."""
        return self.calls["get_job"] > 0

    async def run(self, jobs: int = 1, **options: Any) -> Row:
        """Run a fleet of the one endpoint, whose jobs are submitted."""

        rows = [Row("e", job_id=JOB[n:] + "2" * n) for n in range(jobs)]
        means = Means(self, lambda reference: reference, self.save, self.lines.append)
        options = {"poll_interval": 0.0, **options}
        await Engine(means, Options("t", "default", "s", **options), rows, rows, jobs).run()
        return rows[0]
