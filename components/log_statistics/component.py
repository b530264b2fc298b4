"""LogStatistics: TFX's StatisticsGen, which reads shards whole."""

from tfx.components.statistics_gen.component import StatisticsGen
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

from components.log_statistics.executor import Executor

__all__ = ["LogStatistics"]


class LogStatistics(StatisticsGen):
    """StatisticsGen, from another source of rows."""

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)
