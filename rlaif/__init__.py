"""What every stage shares: configuration, table schemas, run folders, the engine and the report."""

__version__ = "0.1.0"
