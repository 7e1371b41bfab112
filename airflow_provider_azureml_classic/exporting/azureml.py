"""Files for Azure Machine Learning, version 2: an online endpoint, its deployment and models, as YAML.

The scoring script answers the request format of Azure ML Studio (classic), so that its clients need another address and
key only. Facts: ``Azure/azureml-examples``, ``cli/endpoints/online/managed/sample``; the schemas of ``azure-ai-ml``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from airflow_provider_azureml_classic.exporting.companions import PACKAGE, RUNTIME, companions
from airflow_provider_azureml_classic.exporting.package import EARLIER, Files, Package, Target
from airflow_provider_azureml_classic.exporting.runtime import GRAPH

_SCHEMAS = "https://azuremlschemas.azureedge.net/latest"
_CODE, _SCRIPT, _ENVIRONMENT, _MODEL = "code", "score.py", "environment.yml", "model"
_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest"
_PYTHON = "3.11"
#: A machine with two cores: the smallest that is usual for an endpoint.
_MACHINE = "Standard_DS2_v2"
#: Longest name of an online endpoint, in its region.
_LONGEST = 32

_SCORE = f'''"""Answers the request format of Azure ML Studio (classic)."""

import json
import os
from pathlib import Path

from azureml.contrib.services.aml_response import AMLResponse

from {PACKAGE}.exceptions import AzureMLClassicError, rejection
from {PACKAGE}.protocol.errors import to_response
from {RUNTIME} import ExportedModel

model = None


def init():
    global model
    folder = Path(os.environ["AZUREML_MODEL_DIR"])
    model = ExportedModel(next(folder.rglob("{GRAPH}")))


def run(body):
    try:
        return model.call(json.loads(body))
    except ValueError as error:
        return refused(rejection("RequestBodyInvalid", f"The body is not JSON: {{error}}"))
    except AzureMLClassicError as error:
        return refused(error)


def refused(error):
    answer = to_response(error)
    return AMLResponse(json.loads(answer.body), answer.status, json_str=True)
'''


def files(package: Package) -> Files:
    """The files of a folder.

    :param package: the model.
    """
    return {
        "endpoint.yml": _yaml(_endpoint(package)),
        "deployment.yml": _yaml(_deployment(package)),
        "model.yml": _yaml(_model(package, _MODEL)),
        _ENVIRONMENT: _yaml(_environment()),
        f"{_MODEL}/{GRAPH}": package.graph,
        f"{_CODE}/{_SCRIPT}": _SCORE.encode(),
        **{f"{_CODE}/{path}": content for path, content in companions().items()},
    }


def endpoint_name(package: Package) -> str:
    """Name of the endpoint: letters, digits and dashes, few enough, and unlike others that begin in the same way.

    :param package: the model.
    """
    name = package.name if package.name[0].isalpha() else f"e-{package.name}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: _LONGEST - 7].rstrip('-')}-{digest}"


def _endpoint(package: Package) -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/managedOnlineEndpoint.schema.json",
        "name": endpoint_name(package),
        "auth_mode": "key",
        "description": f"{package.service}, endpoint {package.endpoint}",
    }


def _deployment(package: Package) -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/managedOnlineDeployment.schema.json",
        "name": "blue",
        "endpoint_name": endpoint_name(package),
        "model": {"name": package.name, "version": package.version, "path": _MODEL, "type": "custom_model"},
        "code_configuration": {"code": _CODE, "scoring_script": _SCRIPT},
        "environment": {"image": _IMAGE, "conda_file": _ENVIRONMENT},
        "instance_type": _MACHINE,
        "instance_count": 1,
    }


def _model(package: Package, path: str) -> dict[str, Any]:
    return {
        "$schema": f"{_SCHEMAS}/model.schema.json",
        "name": package.name,
        "version": package.version,
        "type": "custom_model",
        "path": path,
        "tags": dict(package.tags),
    }


def _environment() -> dict[str, Any]:
    needed = ["azureml-inference-server-http", "numpy", "onnxruntime>=1.18"]
    return {"name": "model", "channels": ["conda-forge"], "dependencies": [f"python={_PYTHON}", "pip", {"pip": needed}]}


def _yaml(members: Mapping[str, Any]) -> bytes:
    """YAML, of which JSON is a part."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in members.items()).encode()


def _earlier(package: Package) -> Files:
    """Its graph, and what registers it."""
    folder = f"{EARLIER}/{package.version}"
    return {f"{folder}/{_MODEL}/{GRAPH}": package.graph, _place(package): _yaml(_model(package, _MODEL))}


def _place(package: Package) -> str:
    return f"{EARLIER}/{package.version}/model.yml"


TARGET = Target(files, _earlier, _place)
