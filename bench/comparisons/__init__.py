"""Benchmarks: two implementations of the same work, measured side by side."""
