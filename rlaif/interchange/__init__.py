"""Exports of pairs in the formats of other tools, with a data-set card."""
