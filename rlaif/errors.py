"""Errors that a user can fix. Each message is one line: what was got, what is expected, what to do.

The `main` of a stage prints them as `error: <message>` to stderr and exits with status 2. Any other exception is a
defect and keeps its traceback.
"""


class RlaifError(ValueError):
    """Base class of all errors that a user can fix."""


class ConfigError(RlaifError):
    """A configuration file, key, value or override that is not allowed."""


class InputError(RlaifError):
    """A file, folder, column or table that is missing, damaged, or not of the expected kind."""


class OutsideFolderError(InputError):
    """A file name that resolves to a path outside the folder that it must stay in."""


class RunMismatchError(RlaifError):
    """A run folder with output from other settings; nothing in it is overwritten."""


class ModelError(RlaifError):
    """A folder without a model, a hub id that could not be resolved, or a model that could not be loaded."""


class PushError(RlaifError):
    """A data set that could not be pushed to the hub."""
