"""The declared experiments, and how each is set up at its first start."""

from __future__ import annotations

import hashlib
import json
import logging
import shlex
import uuid
from collections.abc import Callable, Container, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_azureml_classic.protocol.jobs import EVALUATION_OUTPUT, INPUT, MODEL_OUTPUT, SCORED_OUTPUT
from airflow_provider_azureml_classic.protocol.references import MODEL_EXTENSION, BlobReference
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT
from airflow_provider_azureml_classic.server.blobs.names import FIRST_MODELS, samples_path
from airflow_provider_azureml_classic.server.clock import Clock
from airflow_provider_azureml_classic.server.experiments.declaration import (
    EVALUATION,
    MODEL,
    SCORED,
    TRAIN,
    Experiment,
)
from airflow_provider_azureml_classic.server.experiments.parameters import Parameter
from airflow_provider_azureml_classic.server.experiments.preview import table_of
from airflow_provider_azureml_classic.server.experiments.schema import Schema
from airflow_provider_azureml_classic.server.experiments.training import TrainingSummary, train
from airflow_provider_azureml_classic.server.models.facts import model_row
from airflow_provider_azureml_classic.server.models.pins import Pin, Pins
from airflow_provider_azureml_classic.server.models.store import ModelStore
from airflow_provider_azureml_classic.server.state.endpoint_store import Store
from airflow_provider_azureml_classic.server.state.tables import (
    EndpointRow,
    ExperimentRow,
    ResourceRow,
    SamplesRow,
    ServiceRow,
)
from airflow_provider_azureml_classic.server.storage.locations import WRITE, Locations
from airflow_provider_azureml_classic.server.storage.scope import WHOLE_STORE
from airflow_provider_azureml_classic.server.workspace.endpoints import new_endpoint
from airflow_provider_azureml_classic.tables.description import Description
from airflow_provider_azureml_classic.tables.spelling import shown

log = logging.getLogger(__name__)

#: Members beside those of the schema, which :meth:`Schema.from_json` passes over.
_SEEN, _DECLARATION = "seen", "declaration"


class Catalogue:
    """The experiments of a server, by name.

    :param experiments: as declared.
    :param store: their schemas.
    """

    def __init__(self, experiments: Iterable[Experiment], store: Store) -> None:
        self._store = store
        self.experiments: Mapping[str, Experiment] = {}
        for experiment in experiments:
            if experiment.name in self.experiments:
                raise ValueError(f"The experiment {experiment.name!r} is declared twice; rename one of them.")
            self.experiments = {**self.experiments, experiment.name: experiment}
        self._schemas: dict[str, Schema] = {}
        self._seen: dict[str, tuple[Description, ...]] = {}

    def schema(self, name: str) -> Schema:
        """The columns of an experiment, inferred once from its first training data.

        :param name: the experiment.
        """
        if name not in self._schemas:
            row = self._store.experiment(name)
            if row is None:
                raise KeyError(name)
            self._schemas[name] = Schema.from_json(json.loads(row.schema))
        return self._schemas[name]

    def seen(self, name: str) -> tuple[Description, ...]:
        """The columns of the first training data; none where an earlier version has set up the experiment.

        :param name: the experiment.
        """
        if name not in self._seen:
            row = self._store.experiment(name)
            items = json.loads(row.schema).get(_SEEN, ()) if row else ()
            self._seen[name] = tuple(Description(**item) for item in items)
        return self._seen[name]

    def inputs(self, name: str, *, training: bool) -> Mapping[str, str]:
        """What each input of a web service's jobs is for, by its name.

        :param name: the experiment.
        :param training: of the web service that trains.
        """
        experiment = self.experiments.get(name)
        return experiment.inputs_of(training=training) if experiment else {INPUT: TRAIN}

    def outputs(self, name: str, *, training: bool) -> Mapping[str, str]:
        """What each output of a web service is, by its name, in their order.

        :param name: the experiment.
        :param training: of the web service that trains.
        """
        experiment = self.experiments.get(name)
        if experiment:
            return experiment.outputs_of(training=training)
        return {MODEL_OUTPUT: MODEL, EVALUATION_OUTPUT: EVALUATION} if training else {SCORED_OUTPUT: SCORED}

    def scoring_names(self, name: str) -> tuple[str, str]:
        """Names of the scoring service's input and output.

        :param name: the experiment.
        """
        (read,), (written,) = self.inputs(name, training=False), self.outputs(name, training=False)
        return read, written

    def parameters(self, name: str, *, training: bool) -> Mapping[str, Parameter]:
        """What callers of a web service may set.

        :param name: the experiment; one that is no longer declared has none.
        :param training: of the web service that trains.
        """
        experiment = self.experiments.get(name)
        return experiment.parameters_of(training=training) if experiment else {}

    def keep_calls(self, name: str) -> tuple[int, int]:
        """How many calls each endpoint of an experiment keeps where nothing else is set for it, and for how many days.

        :param name: the experiment; one that is no longer declared keeps none.
        """
        experiment = self.experiments.get(name)
        return (experiment.keep_calls, experiment.keep_calls_days) if experiment else (0, 1)

    def passthrough(self, name: str) -> tuple[str, ...]:
        """Input columns that the scoring service of an experiment repeats.

        :param name: the experiment; one that is no longer declared repeats nothing.
        """
        experiment = self.experiments.get(name)
        return experiment.passthrough if experiment else ()

    def encoding(self, name: str) -> str | None:
        """The declared encoding of the text files of an experiment.

        :param name: the experiment; of one that is no longer declared nothing is known.
        """
        experiment = self.experiments.get(name)
        return experiment.encoding if experiment else None


@dataclass(frozen=True)
class _First:
    """What the first training of an experiment writes."""

    model: Path
    samples: Path


class Setup:
    """Sets up what is declared and not set up yet: first model, web services, default endpoints.

    :param store: the state.
    :param models: the model files.
    :param locations: places of blobs.
    :param submit: begins the training of a first model in another process of this machine: there is no server yet that
        another one could ask for the data.
    :param clock: gives the present time.
    :param pins: keep model files while they are put in place.
    """

    def __init__(
        self,
        store: Store,
        models: ModelStore,
        locations: Locations,
        submit: Callable[..., Future[Any]],
        clock: Clock,
        pins: Pins,
    ) -> None:
        self._pins = pins
        self._store = store
        self._models = models
        self._locations = locations
        self._submit = submit
        self._clock = clock

    def run(self, experiments: Iterable[Experiment], redeclared: Container[str] = ()) -> None:
        """Set up every experiment that is new; the first models are trained side by side.

        :param experiments: as declared.
        :param redeclared: names of those that may have been changed: what is trained from now on is of the new
            declaration, and endpoints keep the models that they have.
        :raises ValueError: a first training failed, or a declaration was changed under its web services.
        """
        experiments = tuple(experiments)
        new = [experiment for experiment in experiments if not self._is_set_up(experiment, redeclared)]
        with TemporaryDirectory() as folder:
            trainings = []
            for number, experiment in enumerate(new):
                log.info("training the first model of %r", experiment.name)
                data, model, evaluation, samples = (
                    Path(folder) / f"{number}{kind}"
                    for kind in (experiment.first_extension, MODEL_EXTENSION, "-metrics.csv", "-samples.json")
                )
                data.write_bytes(experiment.first_rows())
                training = self._submit(train, experiment, None, data, model, evaluation, None, samples)
                trainings.append((experiment, _First(model, samples), training))
            for experiment, files, training in trainings:
                try:
                    summary = training.result()
                except Exception as error:
                    raise ValueError(
                        f"The first model of experiment {experiment.name!r} could not be trained: {error}"
                    ) from error
                with self._pins.pinned() as pin:
                    self._record(experiment, files, summary, pin)
        for experiment in experiments:
            self._isolate(experiment)

    def _isolate(self, experiment: Experiment) -> None:
        """Keep customers apart from now on, or no longer, as it is declared."""
        services = [one for one in self._store.services() if one.experiment == experiment.name]
        default = next(
            (self._store.endpoint_named(one.id, DEFAULT_ENDPOINT) for one in services if not one.training), None
        )

        def missing(name: str, there: list[str], customer: str) -> EndpointRow | None:
            service = next((one for one in services if one.id not in there), None)
            if service is None:
                return None
            models = () if service.training or default is None else default.resources
            return new_endpoint(service.id, name, self._clock(), customer=customer, models=models)

        isolated = experiment.isolation is not None
        if self._store.isolate(experiment.name, isolated, missing):
            state = "kept apart" if isolated else "no longer kept apart: each endpoint key reaches the whole store"
            log.warning("the customers of %r are %s", experiment.name, state)

    def _is_set_up(self, experiment: Experiment, redeclared: Container[str]) -> bool:
        row = self._store.experiment(experiment.name)
        if row is None:
            return False
        if row.declaration == fingerprint(experiment):
            return True
        if experiment.name in redeclared:
            return False
        raise ValueError(
            f"The experiment {experiment.name!r} is declared in another way than when it was set up, and its endpoints "
            f"serve models of that: {_changes(row, experiment)}. Give the changed experiment another name, or start "
            f"once with --redeclare {shlex.quote(experiment.name)}: ids, URLs and keys stay, and endpoints keep their "
            "models until they are updated."
        )

    def _record(self, experiment: Experiment, files: _First, summary: TrainingSummary, pin: Pin) -> None:
        manifest = summary.manifest
        for line in table_of(experiment, summary.read, summary.seen):
            log.info("%s", line)
        about = {_SEEN: [asdict(one) for one in summary.seen], _DECLARATION: _fixed(experiment)}
        schema = json.dumps({**manifest.schema.shifted({}).to_json(), **about})
        row = ExperimentRow(experiment.name, fingerprint(experiment), schema)
        if self._store.experiment(experiment.name) is not None:
            self._store.redeclare_experiment(row)
            return
        digest = self._models.put(files.model, pin).digest
        first_model = model_row(manifest, digest, summary.length, summary.content)
        owner = uuid.uuid5(uuid.NAMESPACE_URL, experiment.name).hex
        name, samples = f"{owner}{MODEL_EXTENSION}", SamplesRow(summary.content, samples_path(owner))
        self._locations.resolve(WHOLE_STORE, BlobReference(f"{FIRST_MODELS}/{name}"), WRITE).deliver(files.model)
        place = BlobReference(samples.relative_location)
        self._locations.resolve(WHOLE_STORE, place, WRITE).deliver(files.samples)
        now = self._clock()
        services = [
            ServiceRow(uuid.uuid4().hex, experiment.training_service, experiment.name, True, now),
            ServiceRow(uuid.uuid4().hex, experiment.scoring_service, experiment.name, False, now),
        ]
        defaults = [new_endpoint(service.id, DEFAULT_ENDPOINT, now) for service in services]
        first = ResourceRow(
            defaults[1].id, experiment.resource_name, "", f"{FIRST_MODELS}/{name}", digest, summary.content
        )
        defaults[1] = replace(defaults[1], resources=(first,))
        self._store.set_up_experiment(row, services, defaults, first_model, samples)


def fingerprint(experiment: Experiment) -> str:
    """Digest of what of a declaration must not change under existing endpoints.

    :param experiment: the declaration.
    """
    return hashlib.sha256(json.dumps(_fixed(experiment), sort_keys=True).encode()).hexdigest()


def _fixed(experiment: Experiment) -> dict[str, Any]:
    """What of a declaration must not change under existing endpoints, ready for JSON."""
    fixed = ("name", "label", "features", "optional", "ignore", "task", "positive", "time_column", "missing")
    values: dict[str, Any] = {name: getattr(experiment, name) for name in sorted(fixed)}
    # Left out where they say nothing: earlier versions did not have them, and their digests stand.
    if experiment.columns:
        values["columns"] = {name: kind.to_json() for name, kind in experiment.columns.items()}
    if experiment.encoding:
        values["encoding"] = experiment.encoding
    return values


def _changes(row: ExperimentRow, experiment: Experiment) -> str:
    """Which keys of a declaration differ, from what to what."""
    before = json.loads(row.schema).get(_DECLARATION)
    if before is None:
        return "an earlier version set it up, which did not keep how"
    now = json.loads(json.dumps(_fixed(experiment)))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return "; ".join(f"{key} was {shown(before.get(key))} and is {shown(now.get(key))}" for key in keys)
