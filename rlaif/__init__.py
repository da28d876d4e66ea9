"""Shared by all stages: configuration, storage of tables and runs, inference engines, report, export, pipelines."""

__version__ = "0.1.0"
