"""What survives a crash: the database, its tables, and the servers that share it."""
