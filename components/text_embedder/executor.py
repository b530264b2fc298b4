"""Runs `heft.text.run.embed_vocabularies` over a run's artifacts."""

from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.text.finetune_run import encoder_folder
from heft.text.run import embed_vocabularies
from heft.text.settings import TextSettings

__all__ = ["Executor"]


class Executor(BaseExecutor):
    """See `TextEmbedder`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the table and stamps how many texts it holds and whose vectors they are."""
        output = artifact_utils.get_single_instance(output_dict["embeddings"])
        previous = input_dict.get("previous")
        settings = TextSettings.model_validate_json(exec_properties["settings"])
        if encoder := input_dict.get("encoder"):
            settings = settings.model_copy(update={"encoder": encoder_folder(encoder[0].uri)})
        table = embed_vocabularies(
            transform_uri=artifact_utils.get_single_uri(input_dict["transform_graph"]),
            train_uri=artifact_utils.get_split_uri(input_dict["examples"], f.TRAIN),
            settings=settings,
            table_uri=output.uri,
            previous_uri=previous[0].uri if previous else None,
        )
        output.texts = table.embedded + table.reused
        output.encoder = table.fingerprint
