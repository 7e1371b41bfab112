"""Rehearsals: what an update would change, on the last calls of the endpoint. Nothing is put in place for it.

Rule: an answer is figures; no row, and no answer to a row, leaves the server.
"""

from __future__ import annotations

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.protocol.model_scoring import ModelCall
from airflow_provider_azureml_classic.protocol.rehearsal import Rehearsal
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import EndpointSettings
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.workspace.scoring import Scoring
from airflow_provider_azureml_classic.server.workspace.updates import Updates
from airflow_provider_azureml_classic.server.workspace.workspace import Caller, Workspace

#: Rows that both models are given, the newest ones.
MAX_ROWS = 10_000


class Rehearsals:
    """Answers the last calls of endpoints with two models.

    :param workspace: the endpoints.
    :param updates: fetches the new model.
    :param scoring: knows how calls are answered, and keeps them.
    :param clock: gives the present time.
    """

    def __init__(
        self,
        workspace: Workspace,
        updates: Updates,
        scoring: Scoring,
        clock: Clock,
    ) -> None:
        self._workspace, self._updates = workspace, updates
        self._scoring, self._clock = scoring, clock

    def rehearse(
        self, caller: Caller, service_id: str, name: str, settings: EndpointSettings, digest: str | None = None
    ) -> Rehearsal:
        """What an update of an endpoint would change.

        :param caller: who asks.
        :param service_id: id of the web service.
        :param name: the endpoint's name.
        :param settings: as an update names its model: one resource.
        :param digest: SHA-256 of the file that is meant, if the caller says so.
        """
        service, row = self._workspace.endpoint(caller, service_id, name)
        resources = settings.resources or ()
        if len(resources) != 1:
            raise rejection("BadParameterValue", "A rehearsal needs Resources with exactly one model.")
        # Raises where there is no such model to replace.
        self._workspace.view(row).resource(resources[0].name)
        tables = _newest(self._scoring.keeper.last(row, service.experiment))
        if not tables:
            # Not even the model is fetched.
            return Rehearsal()
        threshold, model = self._scoring.threshold(service.experiment, {}), ModelCall(resources[0].location, digest)
        figures, file = self._updates.rehearse(caller, row, service.experiment, model, tables, threshold)
        self._scoring.keeper.kept.add_rehearsal(row.id, file, figures.to_json(), self._clock())
        return figures


def _newest(tables: list[Table]) -> list[Table]:
    rows = 0
    for number, table in enumerate(tables):
        rows += len(table.values)
        if rows >= MAX_ROWS:
            return tables[: number + 1]
    return tables
