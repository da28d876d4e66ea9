"""Pipelines of several stages, each run as a process: rounds, ablations, best-of-N."""
