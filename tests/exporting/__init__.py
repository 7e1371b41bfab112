"""Exports: the graph alone, and beside other tools."""
