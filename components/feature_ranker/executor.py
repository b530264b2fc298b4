"""Runs `heft.selection.run.rank_features` over a run's artifacts."""

from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.selection.run import rank_features
from heft.selection.settings import RankingSettings
from heft.transform import TransformSettings

__all__ = ["Executor"]


class Executor(BaseBeamExecutor):
    """See `FeatureRanker`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the ranking and stamps how many features it is of."""
        output = artifact_utils.get_single_instance(output_dict["ranking"])
        ranking = rank_features(
            artifact_utils.get_split_uri(input_dict["examples"], f.TRAIN),
            artifact_utils.get_single_uri(input_dict["transform_graph"]),
            artifact_utils.get_single_uri(input_dict["embeddings"]),
            TransformSettings.model_validate_json(exec_properties["transform"]),
            RankingSettings.model_validate_json(exec_properties["settings"]),
            output.uri,
            self._make_beam_pipeline,
            # Without a context there is no folder of TFX's for what is temporary.
            self._get_tmp_dir() if self._context else None,
        )
        output.features = len(ranking.features)
