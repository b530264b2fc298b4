"""Keeping the engines quiet, and what a run prints."""

import logging
import os
import sys
import warnings
from pathlib import Path

from heft.journal import Journal, JournalHandler, JournalText, warnings_to

__all__ = ["log_to_file", "quiet"]

_ENGINES = "engines"  # the name under which C++ speaks in a journal


def quiet(verbose: bool = False, journal: Journal | None = None) -> None:
    """Silences TensorFlow, Beam, absl and TFX; call it before they are imported.

    Their C++ parts write to file descriptor 2 whatever their settings say, so
    that descriptor leads nowhere until `log_to_file` gives it a file;
    `sys.stderr` goes on writing to the terminal.

    Args:
        verbose: leave everything as it is.
        journal: takes what is said on the standard error instead, line by line; with
            `verbose` what C++ says too.
    """
    if journal is not None:
        _into(journal, verbose)
        return
    if verbose:
        return
    _hush()
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    _lead_nowhere()


def log_to_file(path: Path, verbose: bool = False, journal: Journal | None = None) -> None:
    """Sends the engines' logs to `path`; to the terminal, or the journal, as well if `verbose`.

    absl, through which TFX logs, and TensorFlow have handlers of their own, on
    stderr; they are taken away. A journal gets warnings and errors in any case.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [_File(path, encoding="utf-8")]
    if journal is not None:
        handlers.append(_journal_handler(journal, verbose))
    elif verbose:
        handlers.append(logging.StreamHandler())
    if not verbose:
        with open(path, "ab") as log:
            os.dup2(log.fileno(), 2)
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _use(handlers)


class _File(logging.FileHandler):
    """A log on a disk that is full says nothing of it, again and again: the run says it once."""

    def handleError(self, record: logging.LogRecord) -> None:
        pass


def _into(journal: Journal, verbose: bool) -> None:
    if verbose:
        journal.take_over(2, _ENGINES)
    else:
        _hush()
        _lead_nowhere()
    warnings_to(journal)
    sys.stderr = JournalText(journal, "stderr")
    _use([_journal_handler(journal, verbose)])


def _journal_handler(journal: Journal, verbose: bool) -> logging.Handler:
    return JournalHandler(journal, logging.INFO if verbose else logging.WARNING)


def _use(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    root.handlers = handlers
    root.setLevel(logging.INFO)
    for name in ("absl", "tensorflow"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def _hush() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warnings.simplefilter("ignore")


def _lead_nowhere() -> None:
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
