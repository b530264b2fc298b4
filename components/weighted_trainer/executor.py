"""TFX's generic Trainer executor, told where the embeddings and the weights lie."""

import hashlib
import json
from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils


class Executor(GenericExecutor):
    """See `WeightedTrainer`."""

    def _GetFnArgs(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        control = artifact_utils.get_single_uri(output_dict["control_model"])
        ranking = input_dict.get("ranking")
        fn_args.custom_config = fn_args.custom_config | {
            "embeddings_uri": artifact_utils.get_single_uri(input_dict["embeddings"]),
            "importance_uri": artifact_utils.get_single_uri(input_dict["importance"]),
            "ranking_uri": ranking[0].uri if ranking else None,
            "control_dir": path_utils.serving_model_dir(control),
            "resume_dir": resume_dir(input_dict, output_dict, exec_properties),
        }
        return fn_args


def resume_dir(
    input_dict: dict[str, list[Artifact]],
    output_dict: dict[str, list[Artifact]],
    exec_properties: dict[str, Any],
) -> str:
    """The same folder whenever the same inputs and settings are run again: beside the artifacts,
    or where a pod is told, whose own disk does not outlive it."""
    uris = {name: sorted(a.uri for a in artifacts) for name, artifacts in input_dict.items()}
    facts = json.dumps([uris, exec_properties], sort_keys=True, default=str)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:16]
    if folder := exec_properties.get("resume_folder"):
        return f"{folder}/{digest}"
    model_run = artifact_utils.get_single_uri(output_dict["model_run"])
    return f"{model_run.rstrip('/').rsplit('/', 2)[0]}/resume/{digest}"
