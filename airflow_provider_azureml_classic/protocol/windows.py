"""The path of earlier versions: see :mod:`.references`."""

from airflow_provider_azureml_classic.protocol.references import STAMP as STAMP
from airflow_provider_azureml_classic.protocol.references import window_end_of as window_end_of
