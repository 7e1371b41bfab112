"""Retraining many endpoints at once: what is asked for, what becomes of each endpoint, and the engine. No Airflow."""
