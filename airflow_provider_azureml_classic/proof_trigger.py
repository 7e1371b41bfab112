"""The path of earlier versions, which names the class in Airflow's database: see :mod:`.triggers`."""

from airflow_provider_azureml_classic.triggers import ProofTrigger as ProofTrigger
