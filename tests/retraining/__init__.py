"""Tests of what retraining is."""
