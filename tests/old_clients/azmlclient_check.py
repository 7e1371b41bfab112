"""Run by hand: the published client ``azmlclient`` 2.6.0 (2020), unchanged, against a running server.

It needs an old Python and an old storage SDK, so the suite does not run it; ``tests/server/test_old_clients.py``
repeats its requests byte for byte instead::

    azureml-classic-server --data-dir /tmp/data --port 8080 &
    uv run --no-project --python 3.7 --with azmlclient==2.6.0 --with azure-storage-blob==2.1.0 \
        tests/old_clients/azmlclient_check.py /tmp/data/connection.json

Python 3.7, because azmlclient's own dependency autoclass 2.2.0 cannot be imported on 3.9 or later.

It scores *Bike Rental* row by row in both forms, scores a file in batch, trains a model in batch and puts it in place.
``execute_bes`` itself is spelled out here as its own steps: it makes its storage client from an account name alone,
which is always an address at azure.net.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime

import pandas as pd
import requests
from azmlclient import execute_rr
from azmlclient.base import BatchClient
from azure.storage.blob import BlockBlobService

BIKES = "Bike Rental"
ROWS = pd.DataFrame(
    {
        "season": [1, 3, 4],
        "yr": [0, 1, 1],
        "mnth": [1, 7, 11],
        "hr": [0, 8, 17],
        "holiday": [0, 0, 0],
        "weekday": [6, 1, 3],
        "workingday": [0, 1, 1],
        "weathersit": [1, 1, 2],
        "temp": [0.24, 0.7, 0.4],
        "atemp": [0.2879, 0.65, 0.4],
        "hum": [0.81, 0.5, 0.6],
        "windspeed": [0.0, 0.2, 0.3],
    }
)


class Management:
    """The few management calls, for which azmlclient has none.

    :param connection: content of ``connection.json``.
    """

    def __init__(self, connection: dict[str, str]) -> None:
        self._base = f"{connection['management_url']}/workspaces/{connection['workspace_id']}/webservices"
        self._headers = {"Authorization": f"Bearer {connection['token']}"}

    def call(self, method: str, path: str, body: object = None) -> object:
        """Send one request and read its answer."""
        answer = requests.request(method, f"{self._base}{path}", json=body, headers=self._headers, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def endpoint(self, service: str, name: str) -> dict[str, object]:
        """An endpoint of a web service, added if need be."""
        found = next(item["Id"] for item in self.call("GET", "") if item["Name"] == service)
        return self.call("GET" if name == "default" else "PUT", f"/{found}/endpoints/{name}", None)


def in_batch(endpoint: dict, storage: BlockBlobService, data: pd.DataFrame, outputs: dict[str, str]) -> dict[str, str]:
    """What ``execute_bes`` does, step by step; returns the content of each output."""
    batch, url, key = BatchClient(), endpoint["ApiLocation"], endpoint["PrimaryKey"]
    inputs, references = batch.push_inputs_to_blob__and__create_output_references(
        {"input1": data}, blob_service=storage, blob_container="azml", output_names=list(outputs)
    )
    for name, extension in outputs.items():
        location = references[name]["RelativeLocation"]
        references[name]["RelativeLocation"] = location[: -len(".csv")] + extension
    job_id = batch.execute_batch_createJob(url, key, batch.create_request_body(inputs, {}, references))
    batch.execute_batch_startJob(url, key, job_id)
    try:
        while batch.read_status_or_result(batch.execute_batch_getJobStatusOrResult(url, key, job_id)) is None:
            time.sleep(0.5)
    finally:
        batch.execute_batch_deleteJob(url, key, job_id)
    places = {name: reference["RelativeLocation"] for name, reference in references.items()}
    print(f"  job {job_id} wrote {places}")
    return places


def main(path: str) -> None:
    """Walk through everything; any failure is an exception."""
    with open(path, encoding="utf-8") as file:
        connection = json.load(file)
    management = Management(connection)
    extra = json.loads(connection["airflow_conn"])["extra"]
    storage = BlockBlobService(connection_string=extra["storage_connection_string"])
    storage.create_container("azml")
    name = f"azml{datetime.now():%H%M%S}"
    scoring = management.endpoint(f"{BIKES} [predictive exp.]", name)
    training = management.endpoint(BIKES, "default")

    def scored() -> list[float]:
        answers = []
        for swagger in (False, True):
            found = execute_rr(
                scoring["PrimaryKey"], scoring["ApiLocation"], {"input1": ROWS}, use_swagger_format=swagger
            )
            answers.append([float(cell) for cell in found["output1"]["Scored Labels"]])
        assert answers[0] == answers[1], answers
        return answers[0]

    before = scored()
    print("request-response, both forms:", before)
    places = in_batch(scoring, storage, ROWS, {"output1": ".csv"})
    container, _, blob = places["output1"].partition("/")
    print("batch scoring:", storage.get_blob_to_text(container, blob).content.split())
    more = pd.concat([ROWS.assign(cnt=[10, 400, 300], dteday="2016-02-01")] * 20, ignore_index=True)
    places = in_batch(training, storage, more, {"output1": ".ilearner", "output2": ".csv"})
    location = {"ConnectionString": extra["storage_connection_string"], "RelativeLocation": places["output1"]}
    resource = {"Name": f"{BIKES} [trained model]", "Location": location}
    management.call("PATCH", f"/{scoring['WebServiceId']}/endpoints/{name}", {"Resources": [resource]})
    after = scored()
    print("after training on other data and a PATCH:", after)
    assert after != before


if __name__ == "__main__":
    main(sys.argv[1])
