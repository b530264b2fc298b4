"""TFX's Evaluator executor over `components.shard_reading`."""

from typing import Any

from tensorflow_model_analysis.proto import config_pb2
from tfx.components.evaluator import executor
from tfx.types.artifact import Artifact
from tfx.types.standard_component_specs import EVAL_CONFIG_KEY
from tfx.utils import proto_utils

from components.shard_reading import read_shards_whole
from heft.evaluation.tfma_rows import KEYS


class Executor(executor.Executor):
    """See `LogEvaluator`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes what TFMA measures, and whether the model keeps the thresholds."""
        config = config_pb2.EvalConfig()
        proto_utils.json_to_proto(exec_properties[EVAL_CONFIG_KEY], config)
        # TFMA takes every column of a batch apart, row by row; the model gets whole records.
        with read_shards_whole({*KEYS, *_columns(config)}):
            super().Do(input_dict, output_dict, exec_properties)


def _columns(config: config_pb2.EvalConfig) -> set[str]:
    """What a config names: labels, weights, slices."""
    found: set[str] = set()
    for model in config.model_specs:
        found |= {model.label_key, *model.label_keys.values()}
        found |= {model.example_weight_key, *model.example_weight_keys.values()}
    for slices in config.slicing_specs:
        found |= {*slices.feature_keys, *slices.feature_values}
    return found
