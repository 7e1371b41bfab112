"""Tests against a real Airflow instance and a real server, both killed at the worst moments."""
