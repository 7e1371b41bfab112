"""The path of earlier versions: see :mod:`.retraining.quality`."""

from airflow_provider_azureml_classic.retraining.quality import *  # noqa: F403
