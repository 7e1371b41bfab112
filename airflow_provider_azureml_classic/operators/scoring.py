"""Scoring: a file as a batch job, or a few rows at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator, airflow_errors
from airflow_provider_azureml_classic.operators.running import JobOperator
from airflow_provider_azureml_classic.protocol.jobs import INPUT, SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.retraining.proof import as_expected

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.retraining.proof import Expectation

#: Most rows of one call: the answers go to XCom.
MAX_ROWS = 1_000
#: Largest body of a scoring call, in bytes (azure-docs ``stream-analytics-scale-with-machine-learning-functions``),
#: less some room for what surrounds the rows.
MAX_BYTES = (4 << 20) - 4_096


class BatchScoringOperator(JobOperator):
    """Scores a CSV, TSV or ARFF file as a batch job of a scoring web service; the extension says which.

    As with :class:`~airflow_provider_azureml_classic.operators.batch.BatchExecutionOperator`, its job is remembered,
    taken up after a crash and cancelled with the task.

    Returns a dict: ``web_service``, ``endpoint``, ``job_id``, ``status``, ``outputs``, and ``location`` of the scored
    file, without its SAS token: to read the file, fetch the job again for a fresh one.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint, whose model scores; by default the default one, whose model is never updated.
        (templated)
    :param source: where the rows are: a path ``container/file.csv`` in the connection's storage account or in the
        service's own store, a URL with its SAS token, or a blob reference. (templated)
    :param destination: where the scored rows go, in the same forms; by default a path that the service chooses, a
        new one for each job. (templated)
    :param input_name: the web service's input that ``source`` is; by default the one that the service says, else
        ``input1``. Likewise ``output_name`` of ``destination``, else ``output1``.
    :param output_name: the web service's output that ``destination`` is.
    :param inputs: further inputs by name, where the web service has several. (templated)
    :param outputs: further outputs by name. (templated)
    :param global_parameters: web service parameters by name. (templated)
    :param wait_for_completion: ``False`` returns once the job is started; ``location`` is ``None`` then.
    :param deferrable: wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls of the job, at most.
    :param job_timeout: seconds that the job may take in all, counted from its submission; ``None`` for no limit.
    :param on_timeout: ``cancel`` the job at the time-out, or ``leave`` it.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (*JobOperator.template_fields, "source", "destination")
    ui_color = "#ede9fe"

    def __init__(
        self,
        *,
        source: Mapping[str, Any] | str,
        destination: Mapping[str, Any] | str | None = None,
        input_name: str | None = None,
        output_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.destination = destination
        self.input_name = input_name
        self.output_name = output_name

    def _sources(self) -> dict[str, Any]:
        return {**super()._sources(), self.input_name or self._names().input or INPUT: self.source}

    def _destinations(self, context: Context, service_id: str) -> dict[str, Any]:
        outputs = super()._destinations(context, service_id)
        if self.destination is None:
            return outputs
        return {**outputs, self.output_name or self._names().output or SCORED_OUTPUT: self.destination}

    def _result(self, context: Context, facts: dict[str, Any]) -> dict[str, Any]:
        locations = facts["outputs"]
        only = next(iter(locations)) if len(locations) == 1 else SCORED_OUTPUT
        location = locations.get(self.output_name or only)
        if location and location.endswith(MODEL_EXTENSION):
            raise rejection(
                "OperationNotSupported",
                f"{self.web_service!r} has trained a model, {location}, instead of scoring: it is the training web "
                "service. Give the scoring web service, which is usually called '... [predictive exp.]'.",
            )
        return {**facts, "location": location}


class ScoreOperator(AzureMLClassicOperator):
    """Scores a few rows, for instance to check after an update that an endpoint gives sensible answers.

    Returns the answers: a list of dicts, one for each row; cells are strings, as the service sends them.

    :param web_service: name or id of the scoring web service. (templated)
    :param endpoint: its endpoint. (templated)
    :param rows: at most 1,000 rows, one mapping each. (templated)
    :param expect: called with the answers; a false result fails the task, which may then be retried. Or the expected
        answers themselves, one mapping each, with the columns to compare.
    :param tolerance: by which numbers may differ from ``expect``, absolutely or relatively.
    :param input_name: the web service's input; by default the one that it has.
    :param output_name: the web service's output; by default the one that it has.
    :param global_parameters: web service parameters by name. (templated)
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = ("azureml_classic_conn_id", "web_service", "endpoint", "rows", "global_parameters")
    template_fields_renderers = {"rows": "json", "global_parameters": "json"}  # noqa: RUF012
    ui_color = "#ede9fe"

    def __init__(
        self,
        *,
        web_service: str,
        endpoint: str,
        rows: Sequence[Mapping[str, Any]],
        expect: Expectation | None = None,
        tolerance: float = 1e-4,
        input_name: str | None = None,
        output_name: str | None = None,
        global_parameters: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.web_service = web_service
        self.endpoint = endpoint
        self.rows = rows
        self.expect = expect
        self.tolerance = tolerance
        self.input_name = input_name
        self.output_name = output_name
        self.global_parameters = global_parameters

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Score once."""
        with airflow_errors():
            table = self._table()
            _, endpoint = self.hook.find(self.web_service, self.endpoint)
            answers = self.hook.client.score(
                endpoint,
                table,
                input_name=self.input_name,
                output_name=self.output_name,
                global_parameters=self.global_parameters,
            ).rows
        self.log.info("Endpoint %r answers: %s", endpoint.name, answers[:3])
        if not as_expected(self.expect, answers, self.tolerance):
            raise AirflowException(
                f"Endpoint {endpoint.name!r} of {self.web_service!r} does not answer as expected: {answers[:3]}."
            )
        return answers

    def _table(self) -> Table:
        rows = self.rows
        if isinstance(rows, str) or not isinstance(rows, Sequence) or not all(isinstance(r, Mapping) for r in rows):
            raise ValueError(f"rows must be a list of dicts, one for each row, not {type(rows).__name__}.")
        if not rows:
            raise ValueError("rows is empty; it must hold at least one row.")
        table = Table.of(rows)
        size = len(json.dumps(table.to_wire()))
        if len(rows) > MAX_ROWS or size > MAX_BYTES:
            raise ValueError(
                f"rows holds {len(rows)} rows of {size} bytes in all, which is too much for one call: at most "
                f"{MAX_ROWS} rows and {MAX_BYTES} bytes. Put them into a CSV file and use BatchScoringOperator."
            )
        return table
