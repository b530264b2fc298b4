"""LogEvaluator: TFX's Evaluator, which reads of each row what its metrics ask for."""

from tfx.components.evaluator.component import Evaluator
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec

from components.log_evaluator.executor import Executor

__all__ = ["LogEvaluator"]


class LogEvaluator(Evaluator):
    """Evaluator, which unpacks a row into a few values and not into all of its features."""

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)
