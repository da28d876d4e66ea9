"""Captions and scenes with known truth, for tests of evaluation, rewriting and scenes."""
