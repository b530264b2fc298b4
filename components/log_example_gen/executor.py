"""Runs `heft.logs.ingest` on the pipeline's Beam runner."""

from typing import Any

from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact

from heft import features
from heft.logs.ingest import ingest
from heft.logs.settings import LogsSettings

__all__ = ["Executor"]


class Executor(BaseBeamExecutor):
    """See `LogExampleGen`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples and the quarantine, and says which splits there are."""
        examples = artifact_utils.get_single_instance(output_dict["examples"])
        quarantine = artifact_utils.get_single_instance(output_dict["quarantine"])
        # TFX finds splits by this naming, once split_names lists them.
        uris = {split: f"{examples.uri}/Split-{split}" for split in features.SPLITS}
        settings = LogsSettings.model_validate_json(exec_properties["settings"])
        report = ingest(settings, uris, quarantine.uri, self._make_beam_pipeline)
        examples.split_names = artifact_utils.encode_split_names(list(report.splits))
        examples.span = report.span
        examples_utils.set_payload_format(examples, example_gen_pb2.FORMAT_TF_EXAMPLE)
        examples.set_int_custom_property("rows", sum(report.splits.values()))
        quarantine.rows = report.rows_quarantined
