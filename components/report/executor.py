"""Runs `heft.report.collect` over a run's artifacts."""

import json
from typing import Any

from tfx.components.evaluator import constants as evaluator
from tfx.components.pusher.executor import _PUSHED_DESTINATION_KEY, _PUSHED_KEY
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import path_utils

from heft.report.collect import Sources, write_report

_FOLDERS = ("quarantine", "anomalies", "embeddings", "importance", "ranking")


class Executor(BaseExecutor):
    """See `ReportGen`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Collects facts from every input and writes `facts.json` and `index.html`."""
        given = {name: artifact_utils.get_single_instance(a) for name, a in input_dict.items()}
        pushed = given["pushed_model"]
        blessed = evaluator.ARTIFACT_PROPERTY_BLESSED_KEY
        sources = Sources(
            **{name: given[name].uri for name in _FOLDERS},
            model=path_utils.serving_model_dir(given["model"].uri),
            model_run=given["model_run"].uri,
            evaluation=given["evaluation"].uri,
            verdict=given["verdict"].uri,
            evaluator_blessed=bool(given["evaluator_blessing"].get_int_custom_property(blessed)),
            blessed=bool(given["blessing"].get_int_custom_property(blessed)),
            serving_blessed=bool(given["infra_blessing"].get_int_custom_property(blessed)),
            serving_reason=given["infra_blessing"].get_string_custom_property("why_not"),
            pushed=bool(pushed.get_int_custom_property(_PUSHED_KEY)),
            model_path=pushed.get_string_custom_property(_PUSHED_DESTINATION_KEY),
        )
        run = json.loads(exec_properties["run"])
        run.setdefault("lineage", {})["artifacts"] = [
            {"name": name, "type": artifact.type_name, "id": artifact.id, "uri": artifact.uri}
            for name, artifact in given.items()
        ]
        report = artifact_utils.get_single_uri(output_dict["report"])
        write_report(sources, run, report)
