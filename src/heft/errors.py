"""Every error a caller of Heft may want to catch, in one tree.

A message names the value, what was expected and what to do; it is meant to be
read without a traceback. `exit_code` is what the `heft` command returns.
"""

from heft.exit_codes import ExitCode

__all__ = [
    "ConfigError",
    "DataError",
    "EncoderError",
    "GateError",
    "HeftError",
    "InputError",
    "LockedError",
    "NotFittedError",
    "ServingError",
    "StorageError",
    "TrainingError",
]


class HeftError(Exception):
    """Base of all errors Heft raises on purpose.

    Attributes:
        exit_code: of the command.
        node: of the pipeline that failed; None where it was none.
    """

    exit_code = ExitCode.FAILED
    node: str | None = None


class InputError(HeftError):
    """What the caller handed in cannot be used; nothing was written."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(InputError):
    """A config file or setting is unknown, missing, or contradicts another."""


class DataError(InputError):
    """A log, catalogue or data folder is missing, empty, or of another shape."""


class EncoderError(InputError):
    """A text encoder checkpoint cannot be used."""


class NotFittedError(HeftError, ValueError, AttributeError):
    """`score` was called before `fit`; bases as in scikit-learn."""


class TrainingError(HeftError):
    """Training cannot go on, for example because the loss is not a number."""


class ServingError(HeftError):
    """A model server refused a request or did not answer."""


class GateError(HeftError):
    """A gate stopped the run: the data or the model is not good enough."""

    exit_code = ExitCode.GATE


class LockedError(HeftError):
    """Another command is at work in the same folder; nothing was written."""

    exit_code = ExitCode.LOCKED


class StorageError(HeftError):
    """A disk is full, or a folder cannot be written."""

    exit_code = ExitCode.STORAGE
