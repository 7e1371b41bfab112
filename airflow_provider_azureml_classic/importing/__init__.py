"""What is left of the cloud service's time, read: Data Factory files become DAGs, API documents declarations. Pure."""
