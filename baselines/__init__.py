"""Selectors that need no gradients."""
