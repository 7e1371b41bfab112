"""Programs that run in the environments of the peers, where this package is not installed."""
