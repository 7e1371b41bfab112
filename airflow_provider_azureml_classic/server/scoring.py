"""The request/response service: rows in, answers out (wire document, section 5)."""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.tables import read_input, the_input, write_output, write_results
from airflow_provider_azureml_classic.server.catalogue import Catalogue
from airflow_provider_azureml_classic.server.models import ModelStore
from airflow_provider_azureml_classic.server.store import Store
from airflow_provider_azureml_classic.server.tables import EndpointRow

INPUT, OUTPUT = "input1", "output1"


class Scoring:
    """Scores rows with the model of an endpoint.

    :param store: web services, to tell training from scoring.
    :param catalogue: the experiments.
    :param models: the loaded models.
    """

    def __init__(self, store: Store, catalogue: Catalogue, models: ModelStore) -> None:
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self._experiments: dict[str, str] = {}

    def is_ready(self, endpoint: EndpointRow) -> bool:
        """Whether :meth:`execute` answers without reading a file or the database.

        :param endpoint: the endpoint called.
        """
        models = endpoint.resources
        return endpoint.service_id in self._experiments and bool(models) and self._models.is_loaded(models[0].digest)

    def execute(self, endpoint: EndpointRow, body: Any, *, swagger: bool, details: bool) -> dict[str, Any]:
        """Score the rows of a request.

        :param endpoint: the endpoint called.
        :param body: decoded JSON.
        :param swagger: answer in the list-of-objects form.
        :param details: answer with column types.
        :raises RequestRejected: naming the input, column or row at fault.
        """
        if not endpoint.resources:
            raise rejection(
                "BatchExecutionOnly", "This is a training web service: it has no request/response call, only jobs."
            )
        table = read_input(INPUT, the_input(body, INPUT))
        scorer = self._models.scorer(endpoint.resources[0].digest)
        answer = scorer.score(table, self._catalogue.passthrough(self._experiment(endpoint)))
        return write_results({OUTPUT: write_output(answer, swagger=swagger, details=details)})

    def _experiment(self, endpoint: EndpointRow) -> str:
        found = self._experiments.get(endpoint.service_id)
        if found is None:
            service = self._store.service(endpoint.service_id)
            if service is None:
                raise rejection("WebServiceNotFound", "The web service was deleted meanwhile.")
            found = self._experiments[endpoint.service_id] = service.experiment
        return found
