"""Tests of references to blobs, wherever these are."""
