"""What operators that update endpoints share: the outlet through which updates become asset events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_azureml_classic.assets import with_endpoint_outlet
from airflow_provider_azureml_classic.operators.base import AzureMLClassicOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.mappedoperator import OperatorPartial


class UpdatingOperator(AzureMLClassicOperator):
    """Has the alias of all endpoints as an outlet, unless the user named an endpoint's asset or another alias.

    :param emit_asset: record updates as asset events.
    """

    def __init__(self, *, emit_asset: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.emit_asset = emit_asset
        if emit_asset:
            self.outlets = with_endpoint_outlet(self.outlets)

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """As Airflow's, with the outlet too. Airflow reads a mapped task's from here. An alias that it has read of no
        task it makes with the first event; two such events at once, and it fails one of the tasks (code of 3.3.2).

        :param kwargs: of the operator, without those that are mapped.
        """
        made = super().partial(**kwargs)
        if made.kwargs.get("emit_asset", True):
            made.kwargs["outlets"] = with_endpoint_outlet(made.kwargs.get("outlets") or [])
        return made
