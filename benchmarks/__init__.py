"""Measurements of the provider and its server, each side by side with a peer or a baseline in the same run."""
