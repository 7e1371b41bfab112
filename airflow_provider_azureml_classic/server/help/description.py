"""What may be said about an endpoint to somebody without a key: names, addresses, columns and sample rows.

Rule 1: no key, no token and no location of a model leaves this module.
Rule 2: the names of a web service's other endpoints are not shown; where customers are kept apart, an endpoint is shown
to those alone who send a key that opens it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_azureml_classic.exceptions import AzureMLClassicError, rejection
from airflow_provider_azureml_classic.protocol.operations import SWAGGER, Operation
from airflow_provider_azureml_classic.protocol.references import DATA_EXTENSIONS, MODEL_EXTENSION
from airflow_provider_azureml_classic.protocol.swagger import ApiDescription, ParameterDescription
from airflow_provider_azureml_classic.protocol.tables import Table
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT
from airflow_provider_azureml_classic.server.experiments.declaration import (
    CLASSIFICATION,
    EVALUATE,
    EVALUATION,
    MODEL,
    SCORED,
    TRAIN,
    Experiment,
)
from airflow_provider_azureml_classic.server.experiments.frame import Frame, first_table
from airflow_provider_azureml_classic.server.experiments.parameters import DATA, Parameter
from airflow_provider_azureml_classic.server.experiments.preview import Understood, understood
from airflow_provider_azureml_classic.server.experiments.samples import cell_of
from airflow_provider_azureml_classic.server.experiments.schema import NUMBER, Column, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import Scorer
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.tables import EndpointRow, ServiceRow
from airflow_provider_azureml_classic.server.workspace.catalogue import Catalogue
from airflow_provider_azureml_classic.server.workspace.workspace import Workspace
from airflow_provider_azureml_classic.tables.description import Description
from airflow_provider_azureml_classic.tables.kinds import file_decimal

log = logging.getLogger(__name__)

_DATA = f"{', '.join(DATA_EXTENSIONS[:-1])} or {DATA_EXTENSIONS[-1]}"
_OUTPUT_ROLES = {
    MODEL: f"the trained model, {MODEL_EXTENSION}",
    EVALUATION: f"its evaluation, {_DATA}",
    SCORED: f"the scored rows, {_DATA}",
}
#: Rows of training data shown for an endpoint that has ``SampleDataEnabled``.
SAMPLE_ROWS = 2

_INPUT_ROLES = {TRAIN: "rows to train on", EVALUATE: "rows for the metrics"}

_TYPES = {True: "Double", False: "String"}


@dataclass(frozen=True)
class Facts:
    """An endpoint, as far as everybody may know it.

    :param api: its calls.
    :param workspace: id of the workspace.
    :param service: id of its web service.
    :param experiment: name of the experiment behind it.
    :param training_input: name of the training web service's input of rows to train on.
    :param guid: its GUID.
    :param public_url: base of the addresses on the management host.
    :param resources: names of the updatable resources.
    :param prevent_update: updates are refused until this is lifted.
    :param from_training_data: the example rows are rows of training data.
    :param answer: the example rows, scored; ``None`` for a training service.
    :param seen: the columns of the first training data.
    """

    api: ApiDescription
    workspace: str
    service: str
    experiment: str
    training_input: str
    guid: str
    public_url: str
    resources: tuple[str, ...]
    prevent_update: bool
    from_training_data: bool
    answer: Table | None
    seen: tuple[Description, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether this is the endpoint whose model cannot be replaced."""
        return self.api.endpoint == DEFAULT_ENDPOINT


class Describer:
    """Describes endpoints to everybody.

    :param workspace: the endpoints.
    :param store: their rows.
    :param catalogue: the experiments.
    :param models: the models, for their columns.
    :param public_url: base of the addresses on the management host.
    """

    def __init__(
        self, workspace: Workspace, store: Store, catalogue: Catalogue, models: ModelStore, public_url: str
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._catalogue = catalogue
        self._models = models
        self.public_url = public_url
        self._samples: dict[str, Table | None] = {}

    def managed(
        self, workspace_id: str, service_id: str, endpoint: str, key: str | None = None, operation: Operation = SWAGGER
    ) -> Facts:
        """An endpoint by its place on the management host.

        :param workspace_id: as in the path.
        :param service_id: id of the web service.
        :param endpoint: name or GUID.
        :param key: that the caller presents; ``None``: the server itself asks.
        :param operation: what is asked.
        :raises NotFound: naming what there is not.
        """
        self._workspace.check_id(workspace_id)
        service = self._workspace.service_row(service_id)
        row = self._store.endpoint_named(service.id, endpoint)
        if row is None or not self._may_know(row, key, operation):
            raise _unknown(endpoint)
        return self._facts(workspace_id, service, row)

    def called(
        self, workspace_id: str, endpoint_id: str, key: str | None = None, operation: Operation = SWAGGER
    ) -> Facts:
        """An endpoint by its place on the services host.

        :param workspace_id: as in the path.
        :param endpoint_id: GUID.
        :param key: see :meth:`managed`; likewise the operation.
        :raises NotFound: naming what there is not.
        """
        self._workspace.check_id(workspace_id)
        row = self._store.endpoint(endpoint_id)
        service = self._store.service(row.service_id) if row else None
        if row is None or service is None or not self._may_know(row, key, operation):
            raise _unknown(endpoint_id)
        return self._facts(workspace_id, service, row)

    def understood(self, endpoint: EndpointRow, path: Path) -> Understood:
        """What a file is taken for that an endpoint is to be trained on.

        :param endpoint: of the web service that trains.
        :param path: the file.
        :raises RequestRejected: it cannot be read, or the experiment is declared no longer.
        """
        service = self._store.service(endpoint.service_id)
        experiment = self._catalogue.experiments.get(service.experiment) if service else None
        if experiment is None:
            raise rejection("WebServiceNotFound", "The experiment of this web service is not declared any more.")
        return understood(experiment, self._catalogue.schema(experiment.name), path)

    def _may_know(self, row: EndpointRow, key: str | None, operation: Operation) -> bool:
        """Everybody may; of the endpoints of customers who are kept apart, who has a key of theirs.

        Names of customers, and the categories and ranges of their data, are on these pages.
        """
        if key is None or row.customer is None or row.name == DEFAULT_ENDPOINT:
            return True
        return self._workspace.opens(row, key, operation)

    def _facts(self, workspace_id: str, service: ServiceRow, row: EndpointRow) -> Facts:
        scorer = self._models.scorer(row.resources[0].digest) if row.resources else None
        schema = scorer.manifest.schema if scorer else self._catalogue.schema(service.experiment)
        sample = self._training_rows(service.experiment, schema) if row.sample_data_enabled else None
        rows = sample or typical_rows(schema)
        answer = self._scored(service.experiment, scorer, rows) if scorer else None
        return Facts(
            api=self._api(service, row, schema, rows, answer),
            workspace=workspace_id,
            service=service.id,
            experiment=service.experiment,
            training_input=self._first_input(service.experiment, training=True),
            guid=row.id,
            public_url=self.public_url,
            resources=tuple(resource.name for resource in row.resources),
            prevent_update=row.prevent_update,
            from_training_data=sample is not None,
            answer=answer,
            seen=() if scorer else self._catalogue.seen(service.experiment),
        )

    def _api(
        self, service: ServiceRow, row: EndpointRow, schema: Schema, rows: Table, answer: Table | None
    ) -> ApiDescription:
        columns = _feature_columns(schema)
        inputs = self._catalogue.inputs(service.experiment, training=service.training)
        outputs = self._catalogue.outputs(service.experiment, training=service.training)
        parameters = self._catalogue.parameters(service.experiment, training=service.training).values()
        return ApiDescription(
            title=service.name,
            endpoint=row.name,
            api_location=self._workspace.view(row).api_location,
            training=answer is None,
            inputs=columns if answer else (*columns, (schema.label, _label_type(schema))),
            optional=frozenset(schema.optional),
            outputs=_columns(answer) if answer else (),
            input_name=self._first_input(service.experiment, training=service.training),
            output_name=next(name for name, role in outputs.items() if role != EVALUATION),
            batch_inputs={
                name: _INPUT_ROLES[role] if service.training else "the rows to score" for name, role in inputs.items()
            },
            inputs_required=not any(parameter.sets == DATA for parameter in parameters),
            parameters=tuple(_parameter(parameter) for parameter in parameters),
            batch_outputs={name: _OUTPUT_ROLES[role] for name, role in outputs.items()},
            example=rows if answer else _labelled(schema, rows),
        )

    def _first_input(self, experiment: str, *, training: bool) -> str:
        inputs = self._catalogue.inputs(experiment, training=training)
        return next(name for name, role in inputs.items() if role == TRAIN)

    def _scored(self, experiment: str, scorer: Scorer, rows: Table) -> Table:
        """The answers of an example; without rows where the model does not take what its manifest says."""
        try:
            return scorer.score(rows, self._catalogue.passthrough(experiment))
        except AzureMLClassicError as error:
            log.warning("no sample answer of %r: %s", experiment, error)
            names, types = zip(*scorer.columns().outputs, strict=True)
            return Table(names, [], types)

    def _training_rows(self, name: str, schema: Schema) -> Table | None:
        """The first rows of the first training data; ``None`` where they are not to be had any more."""
        if name not in self._samples:
            experiment = self._catalogue.experiments.get(name)
            try:
                self._samples[name] = _first_rows(experiment, schema) if experiment else None
            except (OSError, AzureMLClassicError) as error:
                log.warning("no sample data of %r: %s", name, error)
                self._samples[name] = None
        return self._samples[name]


def _parameter(parameter: Parameter) -> ParameterDescription:
    limits = {"minimum": parameter.minimum, "maximum": parameter.maximum, "enum": list(parameter.choices) or None}
    set_limits = {name: value for name, value in limits.items() if value is not None}
    return ParameterDescription(
        parameter.name, parameter.kind, parameter.meaning, parameter.default, parameter.required, set_limits
    )


def _unknown(endpoint: str) -> AzureMLClassicError:
    return rejection("EndpointNotFound", f"There is no endpoint {endpoint!r} here.", target=endpoint)


def _columns(table: Table) -> tuple[tuple[str, str], ...]:
    types = table.column_types or ("String",) * len(table.column_names)
    return tuple(zip(table.column_names, types, strict=True))


def _label_type(schema: Schema) -> str:
    return _TYPES[schema.task != CLASSIFICATION]


def _feature_columns(schema: Schema) -> tuple[tuple[str, str], ...]:
    return tuple((name, _TYPES[schema.kind_of(name).kind == NUMBER]) for name in schema.names)


def _labelled(schema: Schema, rows: Table) -> Table:
    label = schema.classes[0] if schema.classes else 0
    return Table((*rows.column_names, schema.label), [[*row, label] for row in rows.values])


def typical_rows(schema: Schema) -> Table:
    """One row made up from what a model knows of its columns: the middle of a range, the first category.

    An optional column of which nothing is known is left out.

    :param schema: a learnt schema.
    """
    columns = [c for c in schema.features if c.name not in schema.optional or c.categories or c.minimum is not None]
    return Table(tuple(column.name for column in columns), [[_typical(column) for column in columns]])


def _typical(column: Column) -> float | str:
    if column.kind != NUMBER:
        return column.categories[0] if column.categories else "text"
    if column.minimum is None or column.maximum is None:
        return 0
    # What a model file says of itself may be anything: no number, or one that is not finite.
    try:
        low, high = float(column.minimum), float(column.maximum)
    except (TypeError, ValueError):
        return 0
    middle = low / 2 + high / 2
    if not math.isfinite(middle):
        return 0
    return int(middle) if low.is_integer() and high.is_integer() else float(f"{middle:.3g}")


def _first_rows(experiment: Experiment, schema: Schema) -> Table:
    table = first_table(experiment, expected=(experiment.label,), wanted=set(schema.names))
    frame = Frame(table, file_decimal(table, schema.decided, schema.missing))
    names = [name for name in schema.names if name in frame.columns]
    rows = [[cell_of(schema, frame, name, row) for name in names] for row in range(min(SAMPLE_ROWS, frame.rows))]
    return Table(tuple(names), rows)
