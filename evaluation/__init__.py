"""Measures: hallucination before and after alignment, the labeler against the truth, public benchmarks."""
