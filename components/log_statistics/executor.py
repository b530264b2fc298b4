"""TFX's StatisticsGen executor over `components.shard_reading`."""

from typing import Any

from tfx.components.statistics_gen import executor
from tfx.types.artifact import Artifact

from components.shard_reading import read_shards_whole


class Executor(executor.Executor):
    """See `LogStatistics`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes statistics of each split."""
        with read_shards_whole():
            super().Do(input_dict, output_dict, exec_properties)
