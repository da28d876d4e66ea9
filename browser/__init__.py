"""A local, read-only page over the tables of a run: pairs, prompts, dropped rows, progress. See docs/browse.md."""
