"""The reader of data files, by itself."""
