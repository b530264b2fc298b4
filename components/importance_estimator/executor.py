"""Runs `heft.importance.estimate` over a run's artifacts."""

from typing import Any

import tensorflow_transform as tft
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.importance.estimate import estimate_importance
from heft.importance.settings import ImportanceSettings
from heft.transform import transformed_features


class Executor(BaseBeamExecutor):
    """See `ImportanceEstimator`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Weighs the train split and copies the tune split with its debias pairs."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        weighted = artifact_utils.get_single_instance(output_dict["weighted_examples"])
        weighted.split_names = artifact_utils.encode_split_names([f.TRAIN, f.TUNE])
        importance = artifact_utils.get_single_instance(output_dict["importance"])
        graph = artifact_utils.get_single_uri(input_dict["transform_graph"])
        readings = input_dict.get("readings")
        summary = estimate_importance(
            {split: artifact_utils.get_split_uri([examples], split) for split in splits},
            artifact_utils.get_single_uri(input_dict["embeddings"]),
            transformed_features(tft.TFTransformOutput(graph)),
            ImportanceSettings.model_validate_json(exec_properties["settings"]),
            {s: artifact_utils.get_split_uri([weighted], s) for s in (f.TRAIN, f.TUNE)},
            importance.uri,
            self._make_beam_pipeline,
            # Without a context there is no folder of TFX's for what is temporary.
            self._get_tmp_dir() if self._context else None,
            readings[0].uri if readings else None,
        )
        importance.rows = summary["tasks"][f.CTR]["rows"]
