"""Pairs in the layouts of other tools, with a data-set card."""
