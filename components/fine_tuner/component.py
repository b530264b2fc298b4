"""FineTuner: the text encoder, fine-tuned on clicked pairs of query and title."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import TextEncoderFolder
from components.fine_tuner.executor import Executor
from heft.text.settings import TextSettings

__all__ = ["FineTuner", "FineTunerSpec"]


class FineTunerSpec(ComponentSpec):
    """Vocabularies and examples in, a checkpoint out."""

    PARAMETERS = {
        "text": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"encoder": ChannelParameter(type=TextEncoderFolder)}


class FineTuner(BaseComponent):
    """Reads the train split; with `text.finetune.weighted` it has to be a weighted one."""

    SPEC_CLASS = FineTunerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        transform_graph: channel.BaseChannel,
        examples: channel.BaseChannel,
        text: TextSettings,
        source_digest: str = "",
    ) -> None:
        super().__init__(
            FineTunerSpec(
                transform_graph=transform_graph,
                examples=examples,
                text=text.model_dump_json(),
                source_digest=source_digest,
                encoder=Channel(type=TextEncoderFolder),
            )
        )
