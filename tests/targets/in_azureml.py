"""Runs where ``azure-ai-ml`` is installed and this package is not: loads the YAML of a folder, and prints it."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from azure.ai.ml import load_model, load_online_deployment, load_online_endpoint


def main(folder: Path) -> None:
    """Load all files.

    :param folder: that was exported.
    """
    assert importlib.util.find_spec("airflow_provider_azureml_classic") is None
    endpoint = load_online_endpoint(folder / "endpoint.yml")
    deployment = load_online_deployment(folder / "deployment.yml")
    models = [load_model(path) for path in sorted(folder.rglob("model*.yml"))]
    found = {
        "endpoint": endpoint.name,
        "deployment": deployment.endpoint_name,
        "script": str(folder / deployment.code_configuration.code / deployment.code_configuration.scoring_script),
        "models": [{"name": model.name, "version": model.version, "tags": model.tags} for model in models],
    }
    print(json.dumps(found))


main(Path(sys.argv[1]))
