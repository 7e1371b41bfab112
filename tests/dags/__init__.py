"""Tests of whole DAGs in a real Airflow."""
