"""Runs `heft.evaluation.tagging` over the views."""

from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features as f
from heft.evaluation.tagging import SliceSettings, tag_examples
from heft.evaluation.views import VIEWS
from heft.examples import shard_paths


class Executor(BaseExecutor):
    """See `SliceTagger`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes every view again with what training says of its rows."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        paths = {
            split: shard_paths(artifact_utils.get_split_uri([examples], split)) for split in splits
        }
        tagged = artifact_utils.get_single_instance(output_dict["tagged_examples"])
        views = [view for view in VIEWS if view in paths]
        settings = SliceSettings.model_validate_json(exec_properties["settings"])
        written = tag_examples(
            paths.get(f.TRAIN, []), {view: paths[view] for view in views}, tagged.uri, settings
        )
        tagged.split_names = artifact_utils.encode_split_names(views)
        examples_utils.set_payload_format(tagged, examples_utils.get_payload_format(examples))
        tagged.set_int_custom_property("rows", sum(written.values()))
