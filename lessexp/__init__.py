"""LESS data selection (arXiv:2402.04333) and its baselines as experiments."""

__version__ = "0.1.0"
