"""Mutation testing: the code is changed a little, thousands of times, and the quick tests must notice each change."""
