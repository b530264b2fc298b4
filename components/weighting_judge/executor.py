"""Runs `heft.evaluation.judging` and stamps the blessing as TFX's Evaluator does."""

from typing import Any

from tfx.components.evaluator import constants
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils, path_utils

from heft.evaluation import EvaluationSettings
from heft.evaluation.judging import click_line, judge_models


class Executor(BaseExecutor):
    """See `WeightingJudge`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Compares both models on every view; blesses if nothing speaks against it."""
        model = artifact_utils.get_single_instance(input_dict["model"])
        verdict = artifact_utils.get_single_instance(output_dict["verdict"])
        slices = exec_properties["slices"]
        importance = input_dict.get("importance")
        comparison = judge_models(
            _split_uris(input_dict),
            path_utils.serving_model_path(model.uri),
            _model(input_dict.get("control_model")),
            tuple(slices.split(",")) if slices else (),
            EvaluationSettings.model_validate_json(exec_properties["settings"]),
            verdict.uri,
            _model(input_dict.get("last_model")),
            click_line(importance[0].uri) if importance else None,
        )
        verdict.set_int_custom_property("rows", sum(v.rows for v in comparison.views.values()))
        evaluator = artifact_utils.get_single_instance(input_dict["evaluator_blessing"])
        evaluator_blessed = evaluator.get_int_custom_property(
            constants.ARTIFACT_PROPERTY_BLESSED_KEY
        )
        blessed = bool(evaluator_blessed) and not comparison.verdict.objections
        _stamp(artifact_utils.get_single_instance(output_dict["blessing"]), model, blessed)


def _split_uris(input_dict: dict[str, list[Artifact]]) -> dict[str, str]:
    """Folders by split; of the views those with the further columns, where there are such."""
    uris = {}
    for key in ("examples", "tagged_examples"):
        for examples in input_dict.get(key) or ():
            for split in artifact_utils.decode_split_names(examples.split_names):
                uris[split] = artifact_utils.get_split_uri([examples], split)
    return uris


def _model(artifacts: list[Artifact] | None) -> str | None:
    """Where a model lies that there may be none of."""
    path = path_utils.serving_model_path(artifacts[0].uri) if artifacts else None
    return path if path and fileio.exists(path) else None


def _stamp(blessing: Artifact, model: Artifact, blessed: bool) -> None:
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, int(blessed))
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    name = constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")
