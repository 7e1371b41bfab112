"""Tests of the help pages and the API documents."""
