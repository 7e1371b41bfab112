"""Retraining of models the way Azure ML Studio (classic) did it: an Airflow provider, and the service itself."""

__version__ = "0.1.0"
