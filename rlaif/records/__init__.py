"""Rows that others wrote: tables in JSON, JSON lines, CSV and parquet, data sets, and the conversations in them."""
