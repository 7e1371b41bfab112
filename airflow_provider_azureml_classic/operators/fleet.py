"""Retraining many endpoints of a scoring web service in one task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_azureml_classic.exceptions import rejection
from airflow_provider_azureml_classic.fleet.options import Options
from airflow_provider_azureml_classic.fleet.rows import parse_items
from airflow_provider_azureml_classic.fleet.submit import Submitter
from airflow_provider_azureml_classic.operators.base import DEFAULT_ENDPOINT, training_window, warn_of_moment
from airflow_provider_azureml_classic.operators.fleet_run import FleetOperator
from airflow_provider_azureml_classic.retraining.freshness import MODEL_PATH

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_azureml_classic.fleet.memory import FleetMemory
    from airflow_provider_azureml_classic.fleet.options import Options
    from airflow_provider_azureml_classic.fleet.rows import Item, Row
    from airflow_provider_azureml_classic.protocol.values import Endpoint, WebService


class RetrainFleetOperator(FleetOperator):
    """Retrains many endpoints of a scoring web service: add those that are missing, train, update, prove.

    One task instead of thousands: it keeps at most ``max_active_jobs`` in flight and updates each endpoint as soon as
    its model exists. What has become of each endpoint is kept in the task state store, and each job's id before it is
    started, so that a retry, a restart, or clearing a task that did not succeed goes on with what is left; no job is
    started twice. Killing the task, and its time-outs, cancel the jobs in flight. Clearing a task that has succeeded
    retrains everything.

    An endpoint ends *updated*, *kept* (its live model is newer, or the new one is not good enough), *failed*,
    *rolled back* (the update could not be proved and the previous model was put back) or *untouched*.

    Returns a dict, which is in XCom however the task ends: ``total``, ``counts`` by outcome, ``rows`` (``endpoint``,
    ``outcome``, ``reason``, ``job_id``; at most 100, those that need attention first), ``rows_left_out``, ``report``.

    Each update is an event of the endpoint's asset, if the task succeeds; more than ``max_asset_events`` are one event
    of the asset whose endpoint is ``*``.

    :param training_service: name or id of the web service that trains. (templated)
    :param scoring_service: name or id of the web service whose endpoints are updated. (templated)
    :param items: the endpoints: a list, an upstream task's output, or a function that is given the task's context. Each
        item is a mapping of ``endpoint``, ``inputs`` (a place, or places by input name) and, where wanted,
        ``global_parameters``, ``window_start`` and ``window_end``. (templated)
    :param training_endpoint: endpoint of the training service. (templated)
    :param waves: sizes of the first waves: ``[1, 10]`` tries one endpoint, then ten, then all others. A number makes
        all waves that large. By default there is one wave.
    :param failure_threshold: how many endpoints may fail, as a number, or as a share below 1 (of the fleet, and of each
        wave). A wave with more failures is the last one, and the task fails.
    :param max_active_jobs: jobs in flight at most; the cloud service ran 40 at once for one endpoint.
    :param thresholds: limits by metric of a job's evaluation: ``{"AUC": {"min": 0.9}}``; a model outside them is not
        put in place. (templated)
    :param only_if_newer: keep a live model that was trained on newer data.
    :param resource: name of the updatable resource; ``None`` means the only one. (templated)
    :param model_output: the jobs' output that is the trained model.
    :param model_path: path of the models; by default ``models/{endpoint}/{window_end}.ilearner``. (templated)
    :param input_name: input that a place without a name is for.
    :param window_start: start of the training data, ISO 8601; by default the DAG run's. (templated)
    :param window_end: end of the training data, ISO 8601; by default the DAG run's. (templated)
    :param proof: level to reach: ``resource``, ``version``, ``score``, or ``strongest`` that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof, for each endpoint.
    :param on_failure: when there is no proof in time, ``rollback`` puts the previous model back, ``keep`` does not.
    :param report_path: folder for ``fleet.csv`` and ``fleet.html``: a path or URL of Airflow's object storage.
        (templated)
    :param deferrable: run in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    :param poll_interval: seconds within which every job in flight is looked at.
    :param job_timeout: seconds that one job may take from its start; ``None`` for no limit.
    :param fleet_timeout: seconds that the fleet may take, retries included; ``None`` for no limit.
    :param emit_asset: record updates as asset events, through the alias of all endpoints unless ``outlets`` names an
        alias or an endpoint's asset.
    :param max_asset_events: updates that have an event each, at most.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "training_service",
        "scoring_service",
        "items",
        "training_endpoint",
        "thresholds",
        "resource",
        "model_path",
        "window_start",
        "window_end",
        "report_path",
    )
    template_fields_renderers = {"items": "json", "thresholds": "json"}  # noqa: RUF012
    ui_color = "#e0e7ff"

    def __init__(
        self,
        *,
        training_service: str,
        scoring_service: str,
        items: Sequence[Mapping[str, Any]] | Callable[[Context], Iterable[Mapping[str, Any]]] | Any,
        training_endpoint: str = DEFAULT_ENDPOINT,
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
        only_if_newer: bool = True,
        resource: str | None = None,
        model_output: str = "output1",
        model_path: str | None = None,
        input_name: str = "input1",
        window_start: str | None = None,
        window_end: str | None = None,
        proof: Literal["strongest", "resource", "version", "score"] = "strongest",
        proof_timeout: float = 120.0,
        on_failure: Literal["keep", "rollback"] = "rollback",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.training_service = training_service
        self.scoring_service = scoring_service
        self.items = items
        self.training_endpoint = training_endpoint
        self.thresholds = thresholds
        self.only_if_newer = only_if_newer
        self.resource = resource
        self.model_output = model_output
        self.model_path = model_path
        self.input_name = input_name
        self.window_start = window_start
        self.window_end = window_end
        self.proof = proof
        self.proof_timeout = proof_timeout
        self.on_failure = on_failure
        self._found: tuple[WebService, Endpoint, WebService] | None = None

    def _items(self, context: Context) -> list[Item]:

        window = training_window(context, self.window_start, self.window_end)
        given = self.items(context) if callable(self.items) else self.items
        if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
            raise ValueError(f"items must be a list of mappings, not {type(given).__name__}.")
        items = parse_items(given, window, self.input_name)
        if not self.window_end and any(item.window is window for item in items):
            warn_of_moment(self, context)
        default = self._services()[2].default_endpoint_name
        if any(item.endpoint in (default, DEFAULT_ENDPOINT) for item in items):
            raise rejection(
                "DefaultEndpointReadOnly",
                f"The default endpoint of {self.scoring_service!r} is among the items; its model cannot be replaced.",
            )
        return items

    def _services(self) -> tuple[WebService, Endpoint, WebService]:
        """Training service, its endpoint, scoring service; asked for once."""
        if self._found is None:
            training, trainer = self.hook.find(self.training_service, self.training_endpoint)
            scoring = self.hook.client.find_web_service(self.scoring_service)
            if scoring.id == training.id:
                raise ValueError(f"training_service and scoring_service are the same, {scoring.name!r}.")
            self._found = training, trainer, scoring
        return self._found

    def _options(self, deadline: float | None) -> Options:

        training, trainer, scoring = self._services()
        options = Options(
            training_id=training.id,
            training_endpoint=trainer.name,
            scoring_id=scoring.id,
            resource=self.resource,
            model_output=self.model_output,
            max_active_jobs=self.max_active_jobs,
            poll_interval=self.poll_interval,
            job_timeout=self.job_timeout,
            deadline=deadline,
            thresholds=dict(self.thresholds or {}),
            only_if_newer=self.only_if_newer,
            proof=self.proof,
            proof_timeout=self.proof_timeout,
            on_failure=self.on_failure,
        )
        options.check()
        return options

    async def _submit(self, wave: Sequence[Row], items: Sequence[Item], memory: FleetMemory) -> None:

        trainer = self._services()[1]
        async with self.hook.worker_client() as client:
            submitter = Submitter(
                client, trainer, self.hook.reference, self.model_path or MODEL_PATH, self.model_output, memory.epoch
            )
            by_name = {item.endpoint: item for item in items}
            await submitter.prepare(wave, by_name, memory.keep, self._may_fail(wave))
        self.log.info("Submitted %d jobs; %d are taken up.", submitter.submitted, len(wave) - submitter.submitted)
