"""Run by hand: clients that ``openapi-generator`` makes of the API documents, unchanged, against a running server.

Needs Java::

    azureml-classic-server --data-dir /tmp/data --port 8080 &
    uv run --no-project --python 3.11 --with openapi-generator-cli==7.26.0 --with pydantic --with python-dateutil \
        --with urllib3 --with typing-extensions --with requests \
        tests/old_clients/generated_check.py /tmp/data/connection.json data/hours.csv

``mapNumberTo=float``: cells of an answer are texts, as the cloud service sent them, though the document calls them
numbers. The generator's own choice refuses a number that is written as text.

It scores a row of *Bike Rental*, trains a model in batch with web service parameters, and sees an error.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

ROW = {"season": 1, "yr": 0, "mnth": 1, "hr": 0, "holiday": 0, "weekday": 6, "workingday": 0, "weathersit": 1}
ROW |= {"temp": 0.24, "atemp": 0.2879, "hum": 0.81, "windspeed": 0.0}


class House:
    """The management calls, which no API document describes.

    :param connection: content of ``connection.json``.
    """

    def __init__(self, connection: dict[str, str]) -> None:
        self._base = f"{connection['management_url']}/workspaces/{connection['workspace_id']}/webservices"
        self._headers = {"Authorization": f"Bearer {connection['token']}"}

    def endpoint(self, service: str) -> dict[str, Any]:
        """The default endpoint of a web service."""
        services = requests.get(self._base, headers=self._headers, timeout=60).json()
        found = next(one["Id"] for one in services if one["Name"] == service)
        return dict(requests.get(f"{self._base}/{found}/endpoints", headers=self._headers, timeout=60).json()[0])


def generated(folder: Path, package: str, endpoint: dict[str, Any]) -> tuple[ModuleType, Any]:
    """The client made of an endpoint's API document, and an instance of it with the endpoint's key."""
    document = folder / f"{package}.json"
    document.write_bytes(requests.get(f"{endpoint['ApiLocation']}/swagger.json", timeout=60).content)
    command = ["openapi-generator-cli", "generate", "-g", "python", "-i", str(document), "-o", str(folder / package)]
    command += ["--package-name", package, "--additional-properties=mapNumberTo=float"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sys.path.insert(0, str(folder / package))
    module = importlib.import_module(package)
    configuration = module.Configuration(host=None)
    configuration.api_key["api_key"] = endpoint["PrimaryKey"]
    configuration.api_key_prefix["api_key"] = "Bearer"
    return module, module.DefaultApi(module.ApiClient(configuration))


def main() -> None:
    """Score, train, fail."""
    house = House(json.loads(Path(sys.argv[1]).read_text()))
    with tempfile.TemporaryDirectory() as name:
        module, scorer = generated(Path(name), "bike_scoring", house.endpoint("Bike Rental [predictive exp.]"))
        row = module.Input1Item.from_dict(ROW)
        request = module.ExecutionRequest(Inputs=module.ExecutionInputs(input1=[row]))
        answer = scorer.execute(request)
        print("scored", answer.results.output1[0].scored_labels)
        module, trainer = generated(Path(name), "bike_training", house.endpoint("Bike Rental"))
        given = module.GlobalParameters.from_dict({"URI": sys.argv[2], "Learning Rate": 0.2})
        job = trainer.submitjob(module.BatchExecutionRequest(GlobalParameters=given))
        trainer.startjob("2.0", job)
        while (state := trainer.getjobstatus("2.0", job)).status_code in ("NotStarted", "Running"):
            time.sleep(1)
        print(state.status_code, state.details, state.results.output1.relative_location, state.progress)
        try:
            trainer.startjob("2.0", job)
        except module.ApiException as error:
            print("refused", error.status, json.loads(error.body)["error"]["details"][0]["code"])


if __name__ == "__main__":
    main()
