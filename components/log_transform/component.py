"""LogTransform: TFX's Transform over the splits that a log turned out to have."""

from tfx.components.transform.component import Transform
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

from components.log_transform.executor import Executor

__all__ = ["LogTransform"]


class LogTransform(Transform):
    """Transform, whose `splits_config` may name splits that are not there."""

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)
