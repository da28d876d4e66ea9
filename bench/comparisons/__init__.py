"""Two ways of doing the same work, measured side by side."""
