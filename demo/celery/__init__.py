"""A fleet on two Celery workers: PostgreSQL, Redis, Airflow and the server, all of one's own."""
