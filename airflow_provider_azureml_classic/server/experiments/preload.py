"""Imported once by the process that training workers fork from: the libraries that training needs."""

import importlib
import os

# One thread for each worker: the pool has a worker for each core, and OpenMP threads that wait for a core spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

for _name in (
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.metrics",
    "skl2onnx",
    "onnxruntime",
    "airflow_provider_azureml_classic.server.experiments.training",
):
    importlib.import_module(_name)
