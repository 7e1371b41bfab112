"""What retraining is, as values and programs: no Airflow, no I/O of its own."""
