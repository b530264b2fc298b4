"""TextEmbedder: one vector for each distinct query and title."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import TextEmbeddings, TextEncoderFolder
from components.text_embedder.executor import Executor
from heft.text.settings import TextSettings

__all__ = ["TextEmbedder", "TextEmbedderSpec"]


class TextEmbedderSpec(ComponentSpec):
    """Vocabularies and transformed examples in, the embedding table out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "previous": ChannelParameter(type=TextEmbeddings, optional=True),
        "encoder": ChannelParameter(type=TextEncoderFolder, optional=True),
    }
    OUTPUTS = {"embeddings": ChannelParameter(type=TextEmbeddings)}


class TextEmbedder(BaseComponent):
    """Embeds the vocabularies' texts with BERT; `examples` give the traffic.

    Only the train split of `examples` is read. With `previous`, an earlier run's
    table, only new texts go through the encoder. With `encoder` it takes the place of the
    settings' own.
    """

    SPEC_CLASS = TextEmbedderSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        transform_graph: channel.BaseChannel,
        examples: channel.BaseChannel,
        settings: TextSettings,
        previous: channel.BaseChannel | None = None,
        source_digest: str = "",
        encoder: channel.BaseChannel | None = None,
    ) -> None:
        super().__init__(
            TextEmbedderSpec(
                transform_graph=transform_graph,
                examples=examples,
                previous=previous,
                encoder=encoder,
                settings=settings.model_dump_json(),
                source_digest=source_digest,
                embeddings=Channel(type=TextEmbeddings),
            )
        )
