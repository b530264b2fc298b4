"""Keeping the engines quiet, and what a run prints."""

import logging
import os
import sys
import warnings
from pathlib import Path

__all__ = ["log_to_file", "quiet"]


def quiet(verbose: bool = False) -> None:
    """Silences TensorFlow, Beam, absl and TFX; call it before they are imported.

    Their C++ parts write to file descriptor 2 whatever their settings say, so
    that descriptor leads nowhere until `log_to_file` gives it a file;
    `sys.stderr` goes on writing to the terminal.

    Args:
        verbose: leave everything as it is.
    """
    if verbose:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings.simplefilter("ignore")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def log_to_file(path: Path, verbose: bool = False) -> None:
    """Sends the engines' logs to `path`; to the terminal as well if `verbose`.

    absl, through which TFX logs, and TensorFlow have handlers of their own, on
    stderr; they are taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    if verbose:
        handlers.append(logging.StreamHandler())
    else:
        with open(path, "ab") as log:
            os.dup2(log.fileno(), 2)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.INFO)
    for name in ("absl", "tensorflow"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
