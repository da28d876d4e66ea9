"""Measured figures in the documentation: docs/results/*.json, the tables and charts of the pages that show them."""
