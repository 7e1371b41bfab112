"""Customers of a service who are kept apart, and what one of them may hold of another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow_provider_azureml_classic.protocol.messages import Response
from airflow_provider_azureml_classic.protocol.references import BlobReference
from airflow_provider_azureml_classic.protocol.values import Endpoint
from tests.support.service import OTHER_SCORING, RESOURCE, SCORING, WORKSPACE, Service, copied, line

_ISOLATED = 'first_data = "line.csv"\nisolation = "customer"\nparameters = {{ URI = {{ sets = "data" }} }}\n'


@contextmanager
def apart(trained: Path, folder: Path) -> Iterator[Service]:
    """A service of which both experiments keep their customers apart."""
    source = folder / "declared"
    source.mkdir()
    for name in ("line.csv", "experiments.toml"):
        text = (trained / name).read_text()
        (source / name).write_text(text.replace('first_data = "line.csv"\n', _ISOLATED.format()))
    (source / "data").symlink_to(trained / "data")
    with copied(source, folder) as service:
        yield service


@dataclass(frozen=True)
class Customer:
    """A customer: the two endpoints of one name, and what their web services are called.

    :param service: the service.
    :param name: of the endpoints.
    :param training: id of the web service that trains; likewise of the one that scores.
    """

    service: Service
    name: str
    training: str
    scoring: str

    @property
    def trainer(self) -> Endpoint:
        """The endpoint that takes jobs."""
        return self.service.client.get_endpoint(self.training, self.name)

    @property
    def scorer(self) -> Endpoint:
        """The endpoint that scores."""
        return self.service.client.get_endpoint(self.scoring, self.name)

    @cached_property
    def keys(self) -> dict[str, str]:
        """The classic keys of both."""
        trainer, scorer = self.trainer, self.scorer
        return {
            "training, primary": trainer.primary_key,
            "training, secondary": trainer.secondary_key,
            "scoring, primary": scorer.primary_key,
            "scoring, secondary": scorer.secondary_key,
        }

    @cached_property
    def guids(self) -> tuple[str, str]:
        """Of both endpoints, the one that trains first."""
        training, scoring = (row.api_location.rpartition("/")[2] for row in (self.trainer, self.scorer))
        return training, scoring

    @cached_property
    def folder(self) -> str:
        """What of the store is the customer's."""
        folder = self.scorer.folder
        assert folder is not None
        return folder

    def ask(self, method: str, path: str, body: Any = b"", key: str = "scoring, primary") -> Response:
        """A call with one of the keys."""
        return self.service.ask(method, path, body, key=self.keys.get(key, key))

    def call(self, tail: str, *, training: bool) -> str:
        """Path of a job or scoring call."""
        guid = self.guids[0 if training else 1]
        return f"/workspaces/{WORKSPACE}/services/{guid}{tail}?api-version=2.0"

    def submit(self, body: Any, key: str = "training, primary") -> Response:
        """Submit a training job."""
        return self.ask("POST", self.call("/jobs", training=True), body, key)

    def patch(self, location: Any, key: str = "scoring, primary") -> Response:
        """Put a model in place."""
        wire = location.to_wire() if isinstance(location, BlobReference) else location
        return self.ask(
            "PATCH",
            self.service.endpoint_path(self.name, self.scoring),
            {"Resources": [{"Name": RESOURCE, "Location": wire}]},
            key,
        )


def added(service: Service, name: str, scoring: str = SCORING) -> Customer:
    """A new customer, with a file of data and a model of slope 10 in the folder that is theirs."""
    services = {one.name: one.id for one in service.client.list_web_services()}
    customer = Customer(service, name, services[scoring.removesuffix(" [predictive exp.]")], services[scoring])
    service.client.add_endpoint(customer.scoring, name)
    service.put_blob(f"{customer.folder}/data.csv", line(10))
    model = "other" if scoring == OTHER_SCORING else "ten"
    service.put_blob(f"{customer.folder}/m.ilearner", service.read_blob(f"models/{model}.ilearner"))
    return customer


def finished(customer: Customer, key: str = "training, primary", **outputs: str) -> Any:
    """A job of a customer on the file of theirs, once it has ended."""
    places = {name: {"RelativeLocation": path} for name, path in outputs.items()}
    body = {"Inputs": {"input1": {"RelativeLocation": f"{customer.folder}/data.csv"}}, "Outputs": places}
    answer = customer.submit({**body, "GlobalParameters": {}}, key)
    assert answer.status == 200, answer.body
    job = json.loads(answer.body)
    customer.ask("POST", customer.call(f"/jobs/{job}/start", training=True), key=key)
    return customer.service.ended(customer.trainer, job)
