"""What a run remembers of its nodes: ML Metadata, opened as the pipeline opens it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from tfx.orchestration import metadata

from pipeline.metadata import MetadataSettings, connection
from pipeline.places import Places
from pipeline.run_metadata import with_password

__all__ = ["connection_of", "node_executions", "node_of", "opened", "pipeline_executions"]

_NODE = "node"  # the type of the context that TFX keeps for each node, named pipeline.node


def connection_of(places: Places, settings: MetadataSettings) -> pb.ConnectionConfig:
    """How the metadata of a run is reached.

    Raises:
        ConfigError: its password is not set.
    """
    return with_password(connection(settings, places.metadata), settings)


@contextmanager
def opened(connection: Any) -> Iterator[metadata_store.MetadataStore]:
    """The store behind a connection."""
    with metadata.Metadata(connection) as handle:
        yield handle.store


def pipeline_executions(store: metadata_store.MetadataStore, pipeline: str) -> list[pb.Execution]:
    """All executions of a pipeline, the oldest first, whatever their state."""
    return _of_context(store, "pipeline", pipeline)


def node_executions(
    store: metadata_store.MetadataStore, pipeline: str, node: str
) -> list[pb.Execution]:
    """Those of one of its nodes."""
    return _of_context(store, _NODE, f"{pipeline}.{node}")


def _of_context(store: metadata_store.MetadataStore, kind: str, name: str) -> list[pb.Execution]:
    if kind not in {one.name for one in store.get_context_types()}:
        return []  # nothing has run yet
    context = store.get_context_by_type_and_name(kind, name)
    found = [] if context is None else store.get_executions_by_context(context.id)
    return sorted(found, key=lambda one: one.id)


def node_of(store: metadata_store.MetadataStore, execution: int) -> str | None:
    """The node that an execution is of."""
    kinds = {kind.id: kind.name for kind in store.get_context_types()}
    for context in store.get_contexts_by_execution(execution):
        if kinds.get(context.type_id) == _NODE:
            return str(context.name.split(".", 1)[1])
    return None
