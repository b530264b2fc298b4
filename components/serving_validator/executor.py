"""Runs `heft.serving_check` and stamps the blessing as TFX's InfraValidator does."""

import sys
from pathlib import Path
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, path_utils

import serving
from heft import features as f
from heft.serving_check import ServingCheckSettings, check_serving, first_examples
from serving.client import Client

__all__ = ["Executor"]

# The names that Pusher reads, and InfraValidator keeps private.
_BLESSED = "blessed"
_BLESSED_FILE, _NOT_BLESSED_FILE = "INFRA_BLESSED", "INFRA_NOT_BLESSED"
_WHY_NOT = "why_not"
_WHY_NOT_LIMIT = 1_000  # characters; check.json has all of it


class Executor(BaseExecutor):
    """See `ServingValidator`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks the model; a model that fails is not blessed, and the run goes on."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        splits = artifact_utils.decode_split_names(examples.split_names)
        split = f.NATURAL if f.NATURAL in splits else splits[-1]
        settings = ServingCheckSettings.model_validate_json(exec_properties["settings"])
        checked = check_serving(
            path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model)),
            first_examples(artifact_utils.get_split_uri([examples], split), settings.rows),
            command=[sys.executable, "-m", "serving.local_server"],
            connect=Client,
            settings=settings,
            # `python -m` finds packages in the folder it is started in.
            cwd=str(Path(serving.__file__).parents[1]),
        )
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        io_utils.write_string_file(f"{blessing.uri}/check.json", checked.to_json())
        marker = _BLESSED_FILE if checked.ok else _NOT_BLESSED_FILE
        io_utils.write_string_file(f"{blessing.uri}/{marker}", "")
        blessing.set_int_custom_property(_BLESSED, int(checked.ok))
        blessing.set_string_custom_property(_WHY_NOT, checked.why_not()[:_WHY_NOT_LIMIT])
