"""Where a customer's model is trained, and where his files lie, whether a service keeps its customers apart or not.

Rule: which of the two it is, the service says: an endpoint that has a folder trains for its own customer only, who has
one of the same name on the scoring web service.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_azureml_classic.client.retries import Program
from airflow_provider_azureml_classic.client.verbs import Verbs
from airflow_provider_azureml_classic.protocol.values import DEFAULT_ENDPOINT, Endpoint
from airflow_provider_azureml_classic.retraining.freshness import MODEL_PATH, Window, model_path

#: Begins a path that is in the customer's folder, as users write it.
FOLDER = "{folder}"
#: The folder of a customer where they are not kept apart.
_SHARED = "customers/{}"


def find_trainer(client: Verbs, service_id: str, named: str | None, customer: str | None) -> Program[Endpoint]:
    """The endpoint that trains: the one that is named, else the default one, or the customer's own where each has one.

    :param client: of the workspace.
    :param service_id: of the web service that trains.
    :param named: its endpoint; ``None``: whichever it is.
    :param customer: the scoring endpoint that the model is for, if it is known.
    """
    name = DEFAULT_ENDPOINT if named is None else named
    endpoint: Endpoint = yield Verbs.get_endpoint.steps(client, service_id, name)
    if named is None and endpoint.folder and customer:
        endpoint = yield Verbs.get_endpoint.steps(client, service_id, customer)
    return endpoint


def own_place(value: Any, trainer: Endpoint, customer: str) -> Any:
    """A place as a user writes it, with the customer's folder in it; any other is left as it is.

    :param value: a path that begins with ``{folder}/``, or anything.
    :param trainer: the endpoint that trains.
    :param customer: the scoring endpoint that the model is for.
    """
    if not isinstance(value, str) or not value.startswith(f"{FOLDER}/"):
        return value
    return folder_of(trainer, customer) + value.removeprefix(FOLDER)


def folder_of(trainer: Endpoint, customer: str) -> str:
    """The customer's folder: the one that the service gives him, else ``customers/NAME``.

    :param trainer: the endpoint that trains.
    :param customer: the scoring endpoint that the model is for.
    """
    return trainer.folder or _SHARED.format(customer)


def model_place(trainer: Endpoint, service_id: str, customer: str, window: Window, template: str | None = None) -> str:
    """Path of a new model; the default is in the folder of the endpoint that trains, if it has one.

    :param trainer: the endpoint that trains.
    :param service_id: of its web service.
    :param customer: the scoring endpoint that the model is for.
    :param window: of the training data.
    :param template: as :func:`~.freshness.model_path` takes it.
    """
    template = template or (f"{FOLDER}/{MODEL_PATH}" if trainer.folder else MODEL_PATH)
    return model_path(template, service_id, customer, window, folder_of(trainer, customer))
