"""The demonstration behind ``make demo``: a real server, a private Airflow, five days of retraining."""
