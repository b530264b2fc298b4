"""WeightingJudge: did the weights help, and may the model ship?"""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import SampleImportance, WeightingVerdict
from components.weighting_judge.executor import Executor
from heft.evaluation import EvaluationSettings


class WeightingJudgeSpec(ComponentSpec):
    """Models, examples, tagged views and the Evaluator's blessing in; verdict and blessing out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "slices": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "tagged_examples": ChannelParameter(type=standard_artifacts.Examples, optional=True),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "control_model": ChannelParameter(type=standard_artifacts.Model),
        "evaluator_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "importance": ChannelParameter(type=SampleImportance, optional=True),
        "last_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        "verdict": ChannelParameter(type=WeightingVerdict),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class WeightingJudge(BaseComponent):
    """Blesses a model that the Evaluator blessed and to which there is no objection.

    Args:
        examples: of every split.
        model, control_model: with weights and without.
        evaluator_blessing: of the Evaluator.
        settings: see `heft.evaluation.compare`.
        slices: string columns to cut the views by.
        source_digest: of the executor.
        tagged_examples: the views with further columns, in place of those of `examples`.
        importance: how clicks depend on position.
        last_model: the last blessed one, or none.
    """

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
        *,
        tagged_examples: channel.BaseChannel | None = None,
        importance: channel.BaseChannel | None = None,
        last_model: channel.BaseChannel | None = None,
    ) -> None:
        super().__init__(
            WeightingJudgeSpec(
                tagged_examples=tagged_examples,
                importance=importance,
                last_model=last_model,
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
