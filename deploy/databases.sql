-- Airflow's database is made by the image; this one is the server's.
CREATE DATABASE azureml OWNER airflow;
