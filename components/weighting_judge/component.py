"""WeightingJudge: did the weights help, and may the model ship?"""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import WeightingVerdict
from components.weighting_judge.executor import Executor
from heft.evaluation import EvaluationSettings


class WeightingJudgeSpec(ComponentSpec):
    """Both models, raw examples and the Evaluator's blessing in; verdict and blessing out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "slices": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "control_model": ChannelParameter(type=standard_artifacts.Model),
        "evaluator_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }
    OUTPUTS = {
        "verdict": ChannelParameter(type=WeightingVerdict),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class WeightingJudge(BaseComponent):
    """Blesses a model that the Evaluator blessed and that weighting did not harm."""

    SPEC_CLASS = WeightingJudgeSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        model: channel.BaseChannel,
        control_model: channel.BaseChannel,
        evaluator_blessing: channel.BaseChannel,
        settings: EvaluationSettings,
        slices: tuple[str, ...] = (),
        source_digest: str = "",
    ) -> None:
        super().__init__(
            WeightingJudgeSpec(
                examples=examples,
                model=model,
                control_model=control_model,
                evaluator_blessing=evaluator_blessing,
                settings=settings.model_dump_json(),
                slices=",".join(slices),
                source_digest=source_digest,
                verdict=Channel(type=WeightingVerdict),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
            )
        )
