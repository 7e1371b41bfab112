"""Putting a previous model back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_azureml_classic.client.verbs import BlobFacts
from airflow_provider_azureml_classic.exceptions import AccessDenied
from airflow_provider_azureml_classic.hooks import airflow_errors
from airflow_provider_azureml_classic.operators.placing import ModelPlacingOperator, window_said_by
from airflow_provider_azureml_classic.placing import Candidate, Target
from airflow_provider_azureml_classic.proof import shows
from airflow_provider_azureml_classic.protocol.references import BlobReference

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackModelOperator(ModelPlacingOperator):
    """Puts a previous model back, and proves that it is live, as an update does.

    What is to be undone is said by the receipt of an update. An endpoint that somebody else has updated since is left
    alone: the task ends *skipped*, with the reason. Doing it twice does no harm.

    Returns a receipt in the form of :class:`UpdateTrainedModelOperator`'s, so a rollback can be rolled back as well.

    :param receipt: what :class:`UpdateTrainedModelOperator` returned. (templated)
    :param location: instead of ``receipt``, the model to put back: path, URL with SAS token or blob reference.
        (templated)
    :param web_service: name or id of the scoring web service; by default the receipt's. (templated)
    :param endpoint: its endpoint; by default the receipt's. (templated)
    :param resource: name of the updatable resource; by default the receipt's, else the only one. (templated)
    :param only_if_live: the model that must be live now, by its location; ``True`` means the receipt's model,
        ``False`` whatever it is. (templated)
    :param proof: level to reach: ``resource``, ``version``, or ``strongest`` of them that the service offers.
    :param proof_timeout: seconds allowed from PATCH to proof.
    :param emit_asset: record it as an asset event, as an update does.
    :param azureml_classic_conn_id: connection of type ``azureml_classic``. (templated)
    """

    template_fields: Sequence[str] = (
        "azureml_classic_conn_id",
        "receipt",
        "location",
        "web_service",
        "endpoint",
        "resource",
        "only_if_live",
    )
    template_fields_renderers = {"receipt": "json"}  # noqa: RUF012
    ui_color = "#ffedd5"

    def __init__(
        self,
        *,
        receipt: Mapping[str, Any] | None = None,
        location: Mapping[str, Any] | str | None = None,
        web_service: str = "",
        endpoint: str = "",
        resource: str | None = None,
        only_if_live: str | bool = True,
        proof: Literal["strongest", "resource", "version"] = "strongest",
        proof_timeout: float = 120.0,
        emit_asset: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            web_service=web_service,
            endpoint=endpoint,
            location=location,
            resource=resource,
            proof=proof,
            proof_timeout=proof_timeout,
            emit_asset=emit_asset,
            **kwargs,
        )
        self.receipt = receipt
        self.only_if_live = only_if_live

    def execute(self, context: Context) -> dict[str, Any]:
        """Find out what is to be put back, compare with what is live, PATCH, prove."""
        with airflow_errors():
            self._read_receipt()
        return super().execute(context)

    def _read_receipt(self) -> None:
        """What the receipt says takes the place of what was not given."""
        if (self.receipt is None) == (self.location is None):
            raise ValueError("Give exactly one of receipt (what UpdateTrainedModelOperator returned) and location.")
        if self.receipt is not None:
            receipt = self.receipt
            if not isinstance(receipt, Mapping) or not {"endpoint", "model", "replaced"} <= set(receipt):
                raise ValueError(f"receipt must be what UpdateTrainedModelOperator returned, not {receipt!r:.60}.")
            self.location = receipt["replaced"]["location"]
            if not self.location:
                raise ValueError("The receipt does not say which model was replaced; give its location.")
            self.web_service = self.web_service or receipt["web_service"]
            self.endpoint = self.endpoint or receipt["endpoint"]
            self.resource = self.resource or receipt["resource"]
            if self.only_if_live is True:
                self.only_if_live = receipt["model"]["location"]
        if not self.web_service or not self.endpoint:
            raise ValueError("Give web_service and endpoint along with location.")

    def _facts(self, place: BlobReference) -> BlobFacts | None:
        try:
            return super()._facts(place)
        except AccessDenied:
            # A receipt holds no token. The service may read from its own store what we may not.
            self.log.info("Length and checksum of %s are not known: it cannot be read from here.", place.location)
            return None

    def _candidate(self) -> Candidate:
        if self.location is None:
            raise ValueError("There is no model to put back.")
        place = self.hook.readable(self.hook.reference(self.location))
        return Candidate(place, window_said_by(place))

    def _check(self, target: Target, candidate: Candidate) -> None:
        if not isinstance(self.only_if_live, str):
            return
        # The model that is to be put back may be live: an earlier attempt did it, and its proof was lost.
        expected = BlobReference.parse(self.only_if_live)
        if any(shows(target.endpoint, target.resource.name, place) for place in (expected, candidate.location)):
            return
        live = target.resource.location
        raise AirflowSkipException(
            f"Endpoint {self.endpoint!r} keeps its model: {live.location if live else 'one of unknown place'} is live, "
            f"not {expected.location}, so somebody else has updated it since."
        )
