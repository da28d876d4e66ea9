"""One self-contained page about a run: figures, charts, pairs, provenance. Its command is `python -m rlaif.report`."""
