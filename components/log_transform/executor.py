"""TFX's Transform executor for the graph, and `heft.transforming` for the rows."""

from typing import Any

from google.protobuf import json_format
from tfx.components.transform import executor, executor_utils
from tfx.proto import transform_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_component_specs import (
    EXAMPLES_KEY,
    SPLITS_CONFIG_KEY,
    TRANSFORM_GRAPH_KEY,
    TRANSFORMED_EXAMPLES_KEY,
)
from tfx.utils import proto_utils

from components.shard_reading import read_shards_whole
from heft.transforming import transform_splits


class Executor(executor.Executor):
    """See `LogTransform`. Which splits exist is known only when ingest has run."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Analyses the splits of `splits_config` that are there, then transforms them."""
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY])
        there = artifact_utils.decode_split_names(examples.split_names)
        asked = transform_pb2.SplitsConfig()
        proto_utils.json_to_proto(exec_properties[SPLITS_CONFIG_KEY], asked)
        narrowed = transform_pb2.SplitsConfig(
            analyze=[split for split in asked.analyze if split in there],
            transform=[split for split in asked.transform if split in there],
        )
        as_json = json_format.MessageToJson(narrowed)
        rows = output_dict[TRANSFORMED_EXAMPLES_KEY]
        graph_alone = {k: v for k, v in output_dict.items() if k != TRANSFORMED_EXAMPLES_KEY}
        with read_shards_whole():
            super().Do(input_dict, graph_alone, exec_properties | {SPLITS_CONFIG_KEY: as_json})
        executor_utils.SetSplitNames(narrowed.transform, rows)
        graph = artifact_utils.get_single_uri(output_dict[TRANSFORM_GRAPH_KEY])
        folders = {
            artifact_utils.get_split_uri([examples], split): artifact_utils.get_split_uri(
                rows, split
            )
            for split in narrowed.transform
        }
        transform_splits(graph, folders, self._make_beam_pipeline)
