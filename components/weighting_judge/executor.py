"""Runs `heft.evaluation.judging` and stamps the blessing as TFX's Evaluator does."""

from typing import Any

from tfx.components.evaluator import constants
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, path_utils

from heft.evaluation import EvaluationSettings
from heft.evaluation.judging import judge_models


class Executor(BaseExecutor):
    """See `WeightingJudge`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Compares both models on every view; blesses if nothing speaks against it."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        control = path_utils.serving_model_path(
            artifact_utils.get_single_uri(input_dict["control_model"])
        )
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        slices = exec_properties["slices"]
        comparison = judge_models(
            {
                split: artifact_utils.get_split_uri([examples], split)
                for split in artifact_utils.decode_split_names(examples.split_names)
            },
            path_utils.serving_model_path(model.uri),
            control if fileio.exists(control) else None,
            tuple(slices.split(",")) if slices else (),
            EvaluationSettings.model_validate_json(exec_properties["settings"]),
            verdict.uri,
        )
        verdict.set_int_custom_property("rows", sum(v.rows for v in comparison.views.values()))
        evaluator = artifact_utils.get_single_instance(input_dict["evaluator_blessing"])
        evaluator_blessed = evaluator.get_int_custom_property(
            constants.ARTIFACT_PROPERTY_BLESSED_KEY
        )
        blessed = bool(evaluator_blessed) and comparison.verdict.outcome != "harmed"
        _stamp(artifact_utils.get_single_instance(output_dict["blessing"]), model, blessed)


def _stamp(blessing: Artifact, model: Artifact, blessed: bool) -> None:
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")
