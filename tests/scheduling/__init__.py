"""What DAGs may name besides operators: deadlines, filters of partitions, retry policies."""
