"""The verbs of an experiment: each reads files, calls the packages below, and writes files."""
