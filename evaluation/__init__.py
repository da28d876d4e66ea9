"""Measures hallucination before and after alignment, the labeler against the truth, and public benchmarks."""
