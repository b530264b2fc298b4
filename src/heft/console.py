"""Keeping the engines quiet, and what a run prints."""

import logging
import os
import warnings
from pathlib import Path

__all__ = ["log_to_file", "quiet"]


def quiet(verbose: bool = False) -> None:
    """Silences TensorFlow, Beam, absl and TFX; call it before they are imported.

    Args:
        verbose: leave them as they are.
    """
    if verbose:
        return
    # TensorFlow's C++ side and absl read these when they are first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GLOG_minloglevel", "3")
    warnings.simplefilter("ignore")


def log_to_file(path: Path, verbose: bool = False) -> None:
    """Sends all Python logging to `path`; to the terminal as well if `verbose`.

    TFX logs through absl, whose handler writes to stderr; it is replaced.
    """
    import absl.logging

    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [logging.FileHandler(path, encoding="utf-8")]
    if verbose:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.INFO)
    absl.logging.get_absl_logger().propagate = True
    absl.logging.get_absl_logger().handlers = []
