"""Preference data of others, written in the layouts in which it is published."""
