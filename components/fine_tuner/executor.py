"""Runs `heft.text.finetune_run.fine_tune_encoder` over a run's artifacts."""

from pathlib import Path
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.text.finetune_run import fine_tune_encoder
from heft.text.lora import parent_of
from heft.text.settings import TextSettings

__all__ = ["Executor"]


class Executor(BaseExecutor):
    """See `FineTuner`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the checkpoint, and stamps its parent and the step that was kept."""
        output = artifact_utils.get_single_instance(output_dict["encoder"])
        tuned = fine_tune_encoder(
            artifact_utils.get_single_uri(input_dict["transform_graph"]),
            artifact_utils.get_split_uri(input_dict["examples"], f.TRAIN),
            TextSettings.model_validate_json(exec_properties["text"]),
            output.uri,
            # Beside the artifacts, so that a run that is started again finds it.
            str(Path(output.uri).parents[1] / "resume"),
        )
        output.parent = parent_of(tuned.folder)
        output.steps = tuned.steps
