"""SliceTagger: how frequent a query is and whether an item is new, on each row that is judged."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.slice_tagger.executor import Executor
from heft.evaluation.tagging import SliceSettings


class SliceTaggerSpec(ComponentSpec):
    """Examples in, those of the views out with two more features each."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"tagged_examples": ChannelParameter(type=standard_artifacts.Examples)}


class SliceTagger(BaseComponent):
    """Adds slices that are relative to training."""

    SPEC_CLASS = SliceTaggerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self, examples: channel.BaseChannel, settings: SliceSettings, source_digest: str = ""
    ) -> None:
        super().__init__(
            SliceTaggerSpec(
                examples=examples,
                settings=settings.model_dump_json(),
                source_digest=source_digest,
                tagged_examples=Channel(type=standard_artifacts.Examples),
            )
        )
