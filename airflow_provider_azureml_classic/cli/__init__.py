"""The command line ``azureml-classic``: the verbs of the client for people and shell scripts.

It needs no Airflow, unless it is told to read one of its connections.
"""
