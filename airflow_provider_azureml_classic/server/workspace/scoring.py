"""The request/response service: rows in, answers out (wire document, section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.limits import MAX_CELLS
from airflow_provider_azureml_classic.protocol.tables import (
    Table,
    global_parameters,
    read_call,
    read_input,
    the_input,
    write_output,
    write_results,
)
from airflow_provider_azureml_classic.server.counters.intake import Intake
from airflow_provider_azureml_classic.server.experiments.batch import file_rows
from airflow_provider_azureml_classic.server.experiments.histogram import Unusual
from airflow_provider_azureml_classic.server.experiments.parameters import checked, threshold_of
from airflow_provider_azureml_classic.server.experiments.scorer import Columns, Scorer
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.tables import EndpointRow
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue
from airflow_provider_azureml_classic.server.workspace.diagnostics import Diagnostics, is_logged
from airflow_provider_azureml_classic.server.workspace.keeping import Buffer, Keeper
from airflow_provider_azureml_classic.tables.spelling import listed


@dataclass(frozen=True)
class Predictor:
    """What answers an endpoint's calls that set no parameter.

    :param names: of the web service's input and output.
    :param scorer: its model.
    :param threshold: see :meth:`~.experiments.scorer.Scorer.score`.
    :param buffer: where the calls are kept, if the endpoint keeps them.
    """

    names: tuple[str, str]
    scorer: Scorer
    threshold: float | None
    buffer: Buffer | None = None


class Throttle:
    """Counts the scoring calls of each endpoint that run now. Safe to be used by several threads."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = Lock()

    def is_full(self, endpoint: EndpointRow) -> bool:
        """Whether a call that began now would be refused.

        :param endpoint: the endpoint called.
        """
        return self._running[endpoint.id] >= endpoint.max_concurrent_calls

    def begin(self, endpoint: EndpointRow) -> None:
        """A call begins; :meth:`end` must follow.

        :param endpoint: the endpoint called.
        :raises ServiceUnavailable: ``RequestThrottled``: as many run as its ``MaxConcurrentCalls`` says.
        """
        with self._lock:
            if self.is_full(endpoint):
                raise rejection(
                    "RequestThrottled",
                    f"Endpoint {endpoint.name!r} has {endpoint.max_concurrent_calls} calls running, which is its "
                    "MaxConcurrentCalls. Try again, or raise it.",
                    target=endpoint.name,
                )
            self._running[endpoint.id] += 1

    def end(self, endpoint: EndpointRow) -> None:
        """A call that began has ended.

        :param endpoint: the endpoint called.
        """
        with self._lock:
            self._running[endpoint.id] -= 1
            if not self._running[endpoint.id]:
                del self._running[endpoint.id]


class Scoring:
    """Scores rows with the model of an endpoint.

    :param store: web services, to tell training from scoring.
    :param catalogue: the experiments.
    :param models: the loaded models.
    :param diagnostics: writes the logs that endpoints ask for.
    :param keeper: keeps the calls of endpoints whose owner wants that.
    :param intake: counts what is asked.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        models: ModelStore,
        diagnostics: Diagnostics,
        keeper: Keeper,
        intake: Intake,
    ) -> None:
        self.intake = intake
        self._store = store
        self.keeper = keeper
        self._diagnostics = diagnostics
        self._throttle = Throttle()
        self._catalogue = catalogue
        self._models = models
        self._experiments: dict[str, str] = {}

    def is_ready(self, endpoint: EndpointRow) -> bool:
        """Whether :meth:`execute` answers soon: without reading a file or the database, and by a model that is fast.

        :param endpoint: the endpoint called.
        """
        models = endpoint.resources
        ready = endpoint.service_id in self._experiments and bool(models)
        return ready and self._models.answers_at_once(models[0].digest)

    def predictor(self, endpoint: EndpointRow) -> Predictor | None:
        """What answers an endpoint's calls now, if that is nothing but its model; otherwise ask :meth:`execute`.

        :param endpoint: the endpoint called.
        :raises RequestRejected: a call has to set a parameter.
        """
        if not self.is_ready(endpoint) or self._throttle.is_full(endpoint) or is_logged(endpoint, failed=False):
            return None
        experiment = self.experiment(endpoint)
        if self._catalogue.passthrough(experiment):
            return None
        names, scorer = self._catalogue.scoring_names(experiment), self._models.scorer(endpoint.resources[0].digest)
        return Predictor(names, scorer, self.threshold(experiment, {}), self.keeper.buffer(endpoint, experiment))

    def execute(
        self,
        endpoint: EndpointRow,
        read: Callable[[], Any],
        request_id: str,
        *,
        swagger: bool,
        details: bool,
        keep: bool = False,
    ) -> tuple[dict[str, Any], str]:
        """Score the rows of a request; the answer, and the content digest of the model that gave it.

        :param endpoint: the endpoint called.
        :param read: gives the decoded JSON of the body.
        :param request_id: of the answer, for the diagnostics log.
        :param swagger: answer in the list-of-objects form.
        :param details: answer with column types.
        :param keep: it is the call of somebody who uses the answers, to be kept if the endpoint keeps such.
        :raises RequestRejected: naming the input, column or row at fault.
        :raises ServiceUnavailable: ``RequestThrottled``.
        """
        start = perf_counter()
        try:
            self._throttle.begin(endpoint)
            try:
                answer, content, unusual = self._answer(endpoint, read(), details=details, keep=keep)
            finally:
                self._throttle.end(endpoint)
        except AzureMLClassicError as error:
            self._diagnostics.scored(endpoint, request_id, perf_counter() - start, error)
            raise
        self._diagnostics.scored(endpoint, request_id, perf_counter() - start, None, unusual)
        _, output = self.names(endpoint)
        return write_results({output: write_output(answer, swagger=swagger, details=details)}), content

    def names(self, endpoint: EndpointRow) -> tuple[str, str]:
        """Names of the input and the output of an endpoint's calls.

        :param endpoint: the endpoint asked for.
        """
        return self._catalogue.scoring_names(self.experiment(endpoint))

    def columns(self, endpoint: EndpointRow) -> tuple[str, Columns]:
        """Digest of what an endpoint answers with, and its columns.

        :param endpoint: the endpoint asked for.
        :raises RequestRejected: ``BatchExecutionOnly``.
        """
        if not endpoint.resources:
            raise rejection("BatchExecutionOnly", "This is a training web service: it has no model to score with.")
        scorer = self._models.scorer(endpoint.resources[0].digest)
        return scorer.content, scorer.columns()

    def read_rows(self, endpoint: EndpointRow, content: bytes, name: str) -> Table:
        """The rows of a file as a scoring call sends them.

        :param endpoint: the endpoint whose model they are for.
        :param content: the file.
        :param name: what it is called; the extension tells the format.
        :raises RequestRejected: it cannot be read; the message begins with its name.
        :raises ServiceUnavailable: ``RequestThrottled``.
        """
        if not endpoint.resources:
            raise rejection("BatchExecutionOnly", "This is a training web service: it reads no rows to score.")
        self._throttle.begin(endpoint)
        try:
            schema = self._models.scorer(endpoint.resources[0].digest).manifest.schema
            return file_rows(schema, content, name, self._catalogue.encoding(self.experiment(endpoint)))
        except AzureMLClassicError as error:
            raise rejection(error.detail_code or "InputParseError", f"{listed([name])}: {error.message}") from None
        finally:
            self._throttle.end(endpoint)

    def _answer(
        self, endpoint: EndpointRow, body: Any, *, details: bool, keep: bool
    ) -> tuple[Table, str, Unusual | None]:
        if not endpoint.resources:
            raise rejection(
                "BatchExecutionOnly", "This is a training web service: it has no request/response call, only jobs."
            )
        members, experiment = read_call(body), self.experiment(endpoint)
        name, _ = self._catalogue.scoring_names(experiment)
        table = read_input(name, the_input(members, name))
        digest = endpoint.resources[0].digest
        new = not self._models.is_loaded(digest)
        scorer = self._models.scorer(digest)
        if new:
            self._diagnostics.loaded(endpoint, digest)
        threshold = self.threshold(experiment, global_parameters(members))
        if len(table.values) > scorer.most_rows:
            raise rejection(
                "InputParseError",
                f"{len(table.values)} rows are too many for one call of this model: at most {scorer.most_rows} make "
                f"a table of {MAX_CELLS:,} cells. Send fewer rows a call, or score them as a batch job.",
                target=name,
            )
        matrices: list[Any] = []
        answer = scorer.score(table, self._catalogue.passthrough(experiment), threshold, matrices.append)
        if keep:
            self.keeper.add_large(endpoint, experiment, table)
            for matrix in matrices:
                self.intake.add_call(endpoint.id, scorer, matrix, table)
        told = details and is_logged(endpoint, failed=False)
        return answer, scorer.content, scorer.unusual(matrices[0], table) if told and matrices else None

    def threshold(self, experiment: str, sent: Mapping[str, Any]) -> float | None:
        """See :meth:`~.experiments.scorer.Scorer.score`.

        :param experiment: of the endpoint.
        :param sent: parameters of the call.
        """
        declared = self._catalogue.parameters(experiment, training=False)
        return threshold_of(declared, checked(declared, sent)) if declared or sent else None

    def experiment(self, endpoint: EndpointRow) -> str:
        """Name of the experiment of an endpoint.

        :param endpoint: the endpoint.
        """
        experiment = self._experiments.get(endpoint.service_id)
        if experiment is None:
            service = self._store.service(endpoint.service_id)
            if service is None:
                raise rejection("WebServiceNotFound", "The web service was deleted meanwhile.")
            experiment = self._experiments[endpoint.service_id] = service.experiment
        return experiment
