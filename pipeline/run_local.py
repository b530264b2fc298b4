"""A run on this machine: LocalDagRunner, metadata in SQLite or MySQL, progress node by node."""

import datetime
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata
from tfx.orchestration.local import local_dag_runner, runner_utils
from tfx.orchestration.pipeline import RunOptions
from tfx.orchestration.portable import launcher, runtime_parameter_utils
from tfx.orchestration.portable.mlmd import common_utils
from tfx.proto.orchestration import pipeline_pb2

from pipeline.metadata import MetadataSettings
from pipeline.progress import NodeDone
from pipeline.run_metadata import alone, with_password

__all__ = ["StreetRunner", "artifacts_of"]

_RUN_ID = "pipeline-run-id"
# Outputs of resolvers, and what went to quarantine, are not what a node wrote.
_NOT_MADE = ("quarantine", "candidate", "earlier", "passed", "model_blessing")


class StreetRunner(local_dag_runner.LocalDagRunner):
    """LocalDagRunner that reports each node as it begins and ends."""

    def __init__(
        self,
        on_start: Callable[[str], None],
        on_done: Callable[[NodeDone], None],
        records: MetadataSettings | None = None,
    ) -> None:
        super().__init__()
        self._records = records or MetadataSettings()
        self._on_start = on_start
        self._on_done = on_done

    def run_with_ir(
        self, pipeline: pipeline_pb2.Pipeline, run_options: RunOptions | None = None
    ) -> None:
        """Runs every node in order; a node that fails ends the run with its error."""
        with _own_arguments():
            self._run(pipeline)

    def _run(self, pipeline: pipeline_pb2.Pipeline) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        runtime_parameter_utils.substitute_runtime_parameter(pipeline, {_RUN_ID: now})
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        which = deployment.metadata_connection_config.WhichOneof("connection_config")
        connection = with_password(
            getattr(deployment.metadata_connection_config, which), self._records
        )
        if self._records.engine == "mysql":
            with alone(self._records):
                _register_types(pipeline, connection)
        for entry in pipeline.nodes:
            node = entry.pipeline_node
            self._on_start(node.node_info.id)
            started = time.monotonic()
            info = launcher.Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(deployment, node.node_info.id),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(
                    deployment, node.node_info.id
                ),
            ).launch()
            seconds = time.monotonic() - started
            self._on_done(_node_done(connection, node.node_info.id, info, seconds))


def _register_types(pipeline: pipeline_pb2.Pipeline, connection: Any) -> None:
    """Every type that a node will ask for, so that none is made while other runs make theirs."""
    with metadata.Metadata(connection) as store:
        for entry in pipeline.nodes:
            node = entry.pipeline_node
            types = [node.node_info.type, *(context.type for context in node.contexts.contexts)]
            types += [output.artifact_spec.type for output in node.outputs.outputs.values()]
            for kind in types:
                common_utils.register_type_if_not_exist(store, kind)


@contextmanager
def _own_arguments() -> Iterator[None]:
    """No command line, which TFX would hand to Beam's flags: there `-v` wants a number."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def _node_done(connection: Any, node: str, info: Any, seconds: float) -> NodeDone:
    if info is None:
        return NodeDone(node, seconds, False, {}, None)
    with metadata.Metadata(connection) as store:
        [execution] = store.store.get_executions_by_id([info.execution_id])
        outputs = artifacts_of(store.store, info.execution_id)
    cached = execution.last_known_state == metadata_store_pb2.Execution.CACHED
    return NodeDone(
        node,
        seconds,
        cached,
        {key: artifact.uri for key, artifact in outputs.items()},
        _rows([artifact for key, artifact in outputs.items() if key not in _NOT_MADE]),
    )


def artifacts_of(store: Any, execution_id: int) -> dict[str, metadata_store_pb2.Artifact]:
    """The first output artifact of an execution under each key."""
    outputs = {}
    for event in store.get_events_by_execution_ids([execution_id]):
        if event.type in (
            metadata_store_pb2.Event.OUTPUT,
            metadata_store_pb2.Event.INTERNAL_OUTPUT,
        ):
            [artifact] = store.get_artifacts_by_id([event.artifact_id])
            outputs.setdefault(event.path.steps[0].key, artifact)
    return outputs


def _rows(artifacts: list[metadata_store_pb2.Artifact]) -> int | None:
    for artifact in artifacts:
        for properties in (artifact.properties, artifact.custom_properties):
            for name in ("rows", "texts", "pairs"):
                if name in properties and properties[name].int_value:
                    return int(properties[name].int_value)
    return None
