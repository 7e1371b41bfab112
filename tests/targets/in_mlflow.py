"""Runs where MLflow is installed and this package is not: loads a folder, and prints its answers as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys

import mlflow.onnx
import mlflow.pyfunc
import pandas
from mlflow.models import validate_serving_input


def main(folder: str) -> None:
    """Answer the rows of standard input.

    :param folder: that was exported.
    """
    assert importlib.util.find_spec("airflow_provider_azureml_classic") is None
    table = json.load(sys.stdin)
    model = mlflow.pyfunc.load_model(folder)
    answers = model.predict(pandas.DataFrame(table["rows"], columns=table["columns"]))
    example = mlflow.models.Model.load(folder).load_input_example(folder)
    with open(f"{folder}/serving_input_example.json") as file:
        served = validate_serving_input(folder, file.read())
    found = {
        "columns": list(answers),
        "answers": answers.astype(object).to_numpy().tolist(),
        "example": len(model.predict(example)),
        "served": len(served),
        "metadata": model.metadata.metadata,
        "graph": len(mlflow.onnx.load_model(folder).graph.input),
    }
    print(json.dumps(found, default=str))


main(sys.argv[1])
