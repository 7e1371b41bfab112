"""Batch jobs: submitted, run, stopped."""
