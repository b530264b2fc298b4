"""What a run remembers of its nodes: ML Metadata, opened as the pipeline opens it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.orchestration import metadata

from pipeline.places import Places

__all__ = ["connection_of", "node_of", "opened", "pipeline_executions"]


def connection_of(places: Places) -> Any:
    """How the metadata of a run is reached."""
    return metadata.sqlite_metadata_connection_config(places.metadata)


@contextmanager
def opened(connection: Any) -> Iterator[metadata_store.MetadataStore]:
    """The store behind a connection."""
    with metadata.Metadata(connection) as handle:
        yield handle.store


def pipeline_executions(store: metadata_store.MetadataStore, pipeline: str) -> list[pb.Execution]:
    """All executions of a pipeline, whatever their state; none of one that never ran."""
    if "pipeline" not in {kind.name for kind in store.get_context_types()}:
        return []
    context = store.get_context_by_type_and_name("pipeline", pipeline)
    return [] if context is None else list(store.get_executions_by_context(context.id))


def node_of(store: metadata_store.MetadataStore, execution: int) -> str | None:
    """The node that an execution is of: TFX keeps it as the context `pipeline.node`."""
    kinds = {kind.id: kind.name for kind in store.get_context_types()}
    for context in store.get_contexts_by_execution(execution):
        if kinds.get(context.type_id) == "node":
            return str(context.name.split(".", 1)[1])
    return None
