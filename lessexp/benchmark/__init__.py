"""Measurements of speed and fidelity, as commands: ``python -m lessexp.benchmark gradients|projection|scoring``."""
