"""A folder that MLflow loads, and asks for answers: written without MLflow, which is no small thing to install.

``mlflow.pyfunc`` could load the graph alone. But then a whole number in a column of numbers, a cell without a value and
the texts of pandas 3 are errors, and so is a single row: it gives the graph what pandas has, and not what an endpoint
takes. So :mod:`.runtime` stands between them.

Facts: ``mlflow/mlflow``, ``mlflow/models/model.py`` (the format), ``mlflow/pyfunc/__init__.py`` (loaders).
"""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Mapping
from typing import Any

from airflow_provider_azureml_classic.exporting.companions import RUNTIME, companions
from airflow_provider_azureml_classic.exporting.model import LABELS, Column, Model
from airflow_provider_azureml_classic.exporting.package import EARLIER, Files, Package, Target
from airflow_provider_azureml_classic.exporting.runtime import GRAPH

_CODE = "code"
_EXAMPLE, _SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
#: The version of MLflow whose format this is: older ones may lack members that are written here.
_FORMAT = "2.14.0"


def files(package: Package) -> Files:
    """The files of a folder.

    :param package: the model.
    """
    names, rows = package.example()
    split = {"columns": names, "data": rows}
    return {
        "MLmodel": _yaml(_description(package)),
        "model-settings.json": _json(_for_mlserver(package)),
        GRAPH: package.graph,
        _EXAMPLE: _json(split),
        _SERVING_EXAMPLE: _json({"dataframe_split": split}),
        "requirements.txt": "\n".join([*requirements(), ""]).encode(),
        "python_env.yaml": _yaml({"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}),
        "conda.yaml": _yaml(_conda()),
        **{f"{_CODE}/{path}": content for path, content in companions().items()},
    }


def _for_mlserver(package: Package) -> dict[str, Any]:
    """What MLServer reads when it is started in the folder."""
    return {
        "name": package.name,
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": ".", "version": package.version},
    }


def requirements() -> list[str]:
    """What must be installed where the model is loaded."""
    return [f"mlflow>={_FORMAT}", "numpy", "onnx", "onnxruntime>=1.18", "pandas"]


def _conda() -> dict[str, Any]:
    python = f"python={platform.python_version()}"
    return {"channels": ["conda-forge"], "dependencies": [python, "pip", {"pip": requirements()}], "name": "model"}


def _description(package: Package) -> dict[str, Any]:
    environment = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    shared = {"code": _CODE, "data": GRAPH}
    return {
        "flavors": {
            "onnx": {**shared, "onnx_version": "1.16.0", "providers": ["CPUExecutionProvider"]},
            "python_function": {
                **shared,
                "env": environment,
                "loader_module": RUNTIME,
                "python_version": platform.python_version(),
            },
        },
        "metadata": dict(package.tags),
        "mlflow_version": _FORMAT,
        "model_size_bytes": len(package.graph),
        "model_uuid": uuid.uuid5(uuid.NAMESPACE_OID, package.model.sha256).hex,
        "saved_input_example_info": {
            "artifact_path": _EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "dataframe",
        },
        "signature": signature(package.model),
        "utc_time_created": package.model.created.replace("T", " ").partition("+")[0],
    }


def signature(model: Model) -> dict[str, Any]:
    """Names and types of what goes in and comes out; each list is JSON in a text, as MLflow has it.

    :param model: the model.
    """
    inputs = [_input(column) for column in model.columns]
    texts = {LABELS} if model.classes else set()
    outputs = [_typed(name, "string" if name in texts else _number(model)) for name in model.answers]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None}


def _number(model: Model) -> str:
    return "float" if model.classes else "double"


def _input(column: Column) -> dict[str, Any]:
    return {**_typed(column.name, "double" if column.takes_numbers else "string"), "required": not column.optional}


def _typed(name: str, kind: str) -> dict[str, Any]:
    return {"type": kind, "name": name, "required": True}


def _yaml(members: Mapping[str, Any]) -> bytes:
    """YAML, of which JSON is a part."""
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in members.items()).encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _earlier(package: Package) -> Files:
    """A whole folder of its own: each version is registered by itself."""
    return {f"{_place(package)}/{name}": content for name, content in files(package).items()}


def _place(package: Package) -> str:
    return f"{EARLIER}/{package.version}"


TARGET = Target(files, _earlier, _place)
