"""TFX's Transform executor, for logs in which some splits do not exist."""

from typing import Any

from google.protobuf import json_format
from tfx.components.transform import executor
from tfx.proto import transform_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.types.standard_component_specs import EXAMPLES_KEY, SPLITS_CONFIG_KEY
from tfx.utils import proto_utils


class Executor(executor.Executor):
    """See `LogTransform`. Which splits exist is known only when ingest has run."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Narrows `splits_config` to the splits of the examples, then transforms."""
        examples = artifact_utils.get_single_instance(input_dict[EXAMPLES_KEY])
        there = artifact_utils.decode_split_names(examples.split_names)
        asked = transform_pb2.SplitsConfig()
        proto_utils.json_to_proto(exec_properties[SPLITS_CONFIG_KEY], asked)
        narrowed = transform_pb2.SplitsConfig(
            analyze=[split for split in asked.analyze if split in there],
            transform=[split for split in asked.transform if split in there],
        )
        as_json = json_format.MessageToJson(narrowed)
        super().Do(input_dict, output_dict, exec_properties | {SPLITS_CONFIG_KEY: as_json})
