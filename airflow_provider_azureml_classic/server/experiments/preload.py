"""Imported once by the process that training workers fork from: the libraries that training needs."""

import importlib

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
