"""Tests of the store of blobs."""
