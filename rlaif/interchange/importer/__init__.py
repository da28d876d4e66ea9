"""Imports preference pairs and responses that others made, from the layouts in which they publish them."""
