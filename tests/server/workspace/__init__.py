"""Tests of web services and endpoints."""
