"""Runs `heft.anomalies` over a run's statistics."""

import os
from typing import Any

from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import artifact_utils
from tfx.types.artifact import Artifact
from tfx.utils import io_utils

from heft import anomalies
from heft import features as f
from heft.tfdv import tfdv


class Executor(BaseExecutor):
    """See `AnomalyGate`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Validates every split of the statistics; writes the findings, then judges."""
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        splits = artifact_utils.decode_split_names(statistics.split_names)
        schema_uri = artifact_utils.get_single_uri(input_dict["schema"])
        previous = input_dict.get("previous_statistics")
        found = anomalies.find_anomalies(
            {s: stats_artifact_utils.load_statistics(statistics, s).proto() for s in splits},
            tfdv.load_schema_text(io_utils.get_only_uri_in_dir(schema_uri)),
            previous=stats_artifact_utils.load_statistics(previous[0], f.TRAIN).proto()
            if previous
            else None,
        )
        output = artifact_utils.get_single_instance(output_dict["anomalies"])
        output.split_names = artifact_utils.encode_split_names(splits)
        text = "".join(f"{anomaly}\n" for anomaly in found)
        io_utils.write_string_file(os.path.join(output.uri, "anomalies.txt"), text)
        anomalies.check(found)
