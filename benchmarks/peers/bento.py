"""The BentoML service that is measured; runs in BentoML's environment."""

from __future__ import annotations

import os
from typing import Any

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Census:
    """Serves the pipeline of ``CENSUS_MODEL``."""

    def __init__(self) -> None:
        self._model = joblib.load(os.environ["CENSUS_MODEL"])

    @bentoml.api
    def predict(self, table: dict[str, Any]) -> list[list[float]]:
        """Probabilities of the two classes, a row each.

        :param table: ``columns`` and ``data``.
        """
        answers: list[list[float]] = self._model.predict_proba(
            pd.DataFrame(table["data"], columns=table["columns"])
        ).tolist()
        return answers
