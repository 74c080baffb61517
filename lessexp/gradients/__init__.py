"""Batches to stored gradient features."""
