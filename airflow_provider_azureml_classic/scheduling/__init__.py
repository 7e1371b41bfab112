"""What a DAG may name to decide when it runs, by when it must have run, and when it runs again."""
