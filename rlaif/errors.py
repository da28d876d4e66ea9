"""The errors a user can cause. Each message is one line: what was got, what is allowed, what to do.

The `main` of a stage catches RlaifError only, prints `error: <message>` to stderr and exits with status 2. Everything
else is a defect of ours and keeps its traceback.
"""


class RlaifError(ValueError):
    """Root of the tree: something that the user can put right."""


class ConfigError(RlaifError):
    """A configuration file, key, value or override that is not allowed."""


class InputError(RlaifError):
    """A file, folder, column or table that is missing, damaged or of another kind than the stage needs."""


class OutsideFolderError(InputError):
    """A file name that resolves to a path outside the folder that it must stay in."""


class RunMismatchError(RlaifError):
    """A run folder that was written with other settings; nothing in it is overwritten."""


class ModelError(RlaifError):
    """A model folder that holds no model, or a hub id that could not be resolved."""


class PushError(RlaifError):
    """A data set that could not be sent to the hub."""
