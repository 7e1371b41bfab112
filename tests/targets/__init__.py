"""Exports in the tools that they are for, each in an environment of its own: ``make targets``."""
