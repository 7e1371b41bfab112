"""Experiments: declared in TOML, trained with scikit-learn, written as ONNX, scored with onnxruntime.

Importing this package loads none of these libraries: each is imported by the function that needs it.
"""

from __future__ import annotations

import os

from airflow_provider_azureml_classic.server.experiments.declaration import (
    Experiment,
    load_experiments,
    shipped_experiments,
)
from airflow_provider_azureml_classic.server.experiments.ilearner import Manifest, read_ilearner, write_ilearner
from airflow_provider_azureml_classic.server.experiments.python import declare
from airflow_provider_azureml_classic.server.experiments.schema import Column, Schema
from airflow_provider_azureml_classic.server.experiments.scorer import Columns, Scorer
from airflow_provider_azureml_classic.server.experiments.training import TrainingSummary, train

# ONNX Runtime 1.29 and newer tells Microsoft about each model that it loads, unless this is set before it is imported.
# Every process that imports it imports this package first: server, training process, worker of a Dask cluster.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = [
    "Column",
    "Columns",
    "Experiment",
    "Manifest",
    "Schema",
    "Scorer",
    "TrainingSummary",
    "declare",
    "load_experiments",
    "read_ilearner",
    "shipped_experiments",
    "train",
    "write_ilearner",
]
