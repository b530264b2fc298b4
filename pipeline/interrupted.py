"""What a killed run left behind: executions that go on for ever, and halves of outputs.

Neither is ever taken for finished: an output becomes an artifact when its node has ended, in
one transaction, and the cache and the resolvers look at artifacts alone. They are removed so
that they cost no disk, and so that what ML Metadata says of them is true.
"""

import shutil
from pathlib import Path

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.orchestration.pipeline import Pipeline

from pipeline.metadata import MetadataSettings
from pipeline.metadata_store import node_of, opened, pipeline_executions
from pipeline.removing import finish_removing
from pipeline.run_metadata import with_password

__all__ = ["forget_interrupted"]

_SYSTEM = ".system"


def forget_interrupted(pipeline: Pipeline, records: MetadataSettings) -> int:
    """Marks what is said to be running as failed and removes its outputs; returns how many.

    To be called by who is alone in the run's folder, so that nothing is running.
    """
    root = Path(pipeline.pipeline_info.pipeline_root)
    connection = with_password(pipeline.metadata_connection_config, records)
    with opened(connection) as store:
        finish_removing(store, root)
        # A data base may be shared with a run of the same name elsewhere, which is alive.
        alone = connection.WhichOneof("config") == "sqlite"
        return _forget(store, pipeline.pipeline_info.pipeline_name, root, alone)


def _forget(store: metadata_store.MetadataStore, pipeline: str, root: Path, alone: bool) -> int:
    found = []
    for execution in pipeline_executions(store, pipeline):
        if execution.last_known_state != pb.Execution.RUNNING:
            continue
        node = node_of(store, execution.id)
        folders = [] if node is None else _folders(root / node, execution.id)
        if not folders and not alone:
            continue
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        execution.last_known_state = pb.Execution.FAILED
        found.append(execution)
    if found:
        store.put_executions(found)
    return len(found)


def _folders(node: Path, execution: int) -> list[Path]:
    """Where an execution that did not end wrote; a node's folder has one for each output."""
    made = [folder / str(execution) for folder in node.glob("*") if folder.name != _SYSTEM]
    system = [node / _SYSTEM / "executor_execution" / str(execution)]
    found = [folder for folder in (*made, *system) if folder.is_dir()]
    # Their names do not say whose they are; where this one ran, nothing else does.
    return found + (list((node / _SYSTEM / "stateful_working_dir").glob("*")) if found else [])
