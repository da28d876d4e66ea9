"""Data of others as it is published: preference data in its layouts, and a double of the hub that serves data sets."""
