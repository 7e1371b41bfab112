"""Model files: kept, loaded, pinned, removed."""
