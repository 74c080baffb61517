"""Measurements of speed and fidelity, as commands: ``python -m lessexp.benchmark --help`` lists them."""
