"""Tests of what reads the leftovers of the cloud service."""
