"""Many small models kept fresh, by the contract of Azure ML Studio (classic): an Airflow provider, and the server."""

__version__ = "0.1.0"
