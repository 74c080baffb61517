"""Scores to a subset."""
