"""Experiments declared in Python: an estimator as an object, and a function that makes a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeRegressor

from airflow_provider_azureml_classic.server.experiments import declare

HERE = Path(__file__).parent


def scaled(schema: Any) -> Any:
    """A pipeline of one's own."""
    return make_pipeline(MinMaxScaler(), LinearRegression())


SHARED: dict[str, Any] = {"label": "y", "features": ["x"], "first_data": "first.csv", "directory": HERE}
EXPERIMENTS = [
    declare(name="Stored Tree", estimator=DecisionTreeRegressor(max_depth=3, random_state=0), **SHARED),
    declare(name="Stored Function", estimator=scaled, task="regression", **SHARED),
]
