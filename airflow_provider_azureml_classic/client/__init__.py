"""Client of the service, blocking (:class:`Client`) and asynchronous (:class:`AsyncClient`).

Every verb is written once, in :mod:`.verbs`, as a generator that yields requests and is sent responses; the two
clients only differ in how they send and sleep. Imports neither Airflow nor the server.
"""

from airflow_provider_azureml_classic.client.aio import AsyncClient
from airflow_provider_azureml_classic.client.blocking import Client
from airflow_provider_azureml_classic.client.retries import RetryPolicy

__all__ = ["AsyncClient", "Client", "RetryPolicy"]
