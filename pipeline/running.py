"""Running the nodes of a pipeline, and saying what went wrong in one."""

import logging
from pathlib import Path

from tfx.orchestration.pipeline import Pipeline

from heft.console import log_to_file
from heft.errors import HeftError
from heft.screen import journal_of
from heft.storage import storage_fault
from pipeline.interrupted import forget_interrupted
from pipeline.progress import Progress
from pipeline.run_local import StreetRunner
from pipeline.street import Prepared, Street

__all__ = ["run_nodes"]


def run_nodes(pipeline: Pipeline, ready: Prepared, street: Street) -> Progress:
    """Runs every node, with a line for each, and returns where their outputs lie.

    Raises:
        HeftError: a node failed.
    """
    log_path = ready.run_dir / "logs.txt"
    log_to_file(log_path, street.verbose, journal_of(street.console))
    progress = Progress(street.console, ready.config.name)
    try:
        records = ready.config.metadata
        forget_interrupted(pipeline, records)
        StreetRunner(progress.started, progress.done, records).run(pipeline)
    except Exception as error:
        fault = _as_heft_error(error, progress.current, log_path, ready.run_dir)
        fault.node = progress.current
        progress.failed(str(fault))
        if fault is error:
            raise
        raise fault from error
    finally:
        progress.close()
    return progress


def _as_heft_error(error: Exception, node: str, log_path: Path, run_dir: Path) -> HeftError:
    """The Heft error that an engine wrapped, or one that names the node and the log."""
    if isinstance(error, HeftError):
        return error
    if fault := storage_fault(error, run_dir):
        logging.getLogger(__name__).error("%s failed", node, exc_info=error)
        return type(fault)(f"{node} failed: {fault}")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HeftError):
            return cause
        cause = cause.__cause__ or cause.__context__
    logging.getLogger(__name__).error("%s failed", node, exc_info=error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # Some engines put a heading first and what happened last.
    what = f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]
    return HeftError(
        f"{node} failed: {type(error).__name__}: {what}\n"
        f"The whole log is in {log_path}; run again to go on from this node."
    )
