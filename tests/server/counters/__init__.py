"""Tests of stored models."""
