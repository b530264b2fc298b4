"""Runs `heft.text.reading.read_pairs` over a run's artifacts."""

from typing import Any

from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.text.reading import read_pairs

__all__ = ["Executor"]


class Executor(BaseBeamExecutor):
    """See `PairReader`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the links and stamps how many pairs they are of."""
        output = artifact_utils.get_single_instance(output_dict["readings"])
        previous = input_dict.get("previous")
        found = read_pairs(
            artifact_utils.get_split_uri(input_dict["examples"], f.TRAIN),
            artifact_utils.get_single_uri(input_dict["embeddings"]),
            output.uri,
            most=exec_properties["most_pairs"],
            previous_uri=previous[0].uri if previous else None,
            make_pipeline=self._make_beam_pipeline,
            # Without a context there is no folder of TFX's for what is temporary.
            scratch=self._get_tmp_dir() if self._context else None,
        )
        output.pairs = len(found.keys)
