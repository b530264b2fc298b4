"""Runs `heft.gate.inspecting` over a run's statistics and examples."""

import json
from typing import Any

import tensorflow as tf
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils

from components.artifacts import GATE_FORMAT
from heft.gate.findings import FORMAT, Findings, Passed
from heft.gate.inspecting import Span, inspect
from heft.gate.settings import GateSettings, LogColumns
from heft.tfdv import tfdv

__all__ = ["Executor"]


class Executor(BaseExecutor):
    """See `AnomalyGate`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Looks at the span; writes what was found, then judges."""
        span = _span(input_dict)
        found = inspect(
            span,
            [Passed.load(artifact.uri) for artifact in input_dict.get("passed") or []],
            GateSettings.model_validate_json(exec_properties["settings"]),
            LogColumns.model_validate_json(exec_properties["columns"]),
        )
        output = artifact_utils.get_single_instance(output_dict["anomalies"])
        uri = _lasting(output.uri, found)
        found.save(uri)
        found.check(uri)
        output.span = span.number
        output.split_names = artifact_utils.encode_split_names(list(span.statistics))
        output.set_int_custom_property(GATE_FORMAT, FORMAT)


def _lasting(uri: str, found: Findings) -> str:
    """Where the findings lie. TFX takes away what a node that failed has written; beside it
    the table stays."""
    if found.passed:
        return uri
    folder, _, execution = uri.rstrip("/").rpartition("/")
    return f"{folder.rpartition('/')[0]}/rejected/{execution}"


def _span(inputs: dict[str, list[Artifact]]) -> Span:
    examples = artifact_utils.get_single_instance(inputs["examples"])
    statistics = artifact_utils.get_single_instance(inputs["statistics"])
    quarantine = artifact_utils.get_single_uri(inputs["quarantine"])
    with tf.io.gfile.GFile(f"{quarantine}/summary.json", "r") as file:
        streams = json.loads(file.read())["streams"]
    schema = io_utils.get_only_uri_in_dir(artifact_utils.get_single_uri(inputs["schema"]))
    return Span(
        number=examples.span,
        examples={
            split: artifact_utils.get_split_uri([examples], split)
            for split in artifact_utils.decode_split_names(examples.split_names)
        },
        statistics={
            split: stats_artifact_utils.load_statistics(statistics, split).proto()
            for split in artifact_utils.decode_split_names(statistics.split_names)
        },
        schema=tfdv.load_schema_text(schema),
        streams=streams,
    )
