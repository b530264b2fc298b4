"""PairReader: how firmly BERT's attention links each query and title that met."""

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import PairReadings, TextEmbeddings
from components.pair_reader.executor import Executor

__all__ = ["PairReader", "PairReaderSpec"]


class PairReaderSpec(ComponentSpec):
    """Transformed examples and embeddings in, links of pairs out."""

    PARAMETERS = {
        "most_pairs": ExecutionParameter(type=int),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "embeddings": ChannelParameter(type=TextEmbeddings),
        "previous": ChannelParameter(type=PairReadings, optional=True),
    }
    OUTPUTS = {"readings": ChannelParameter(type=PairReadings)}


class PairReader(BaseBeamComponent):
    """Reads the pairs of the train split that were shown most, once each.

    With `previous`, an earlier run's readings, only new pairs are read.
    """

    SPEC_CLASS = PairReaderSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        embeddings: channel.BaseChannel,
        most_pairs: int,
        previous: channel.BaseChannel | None = None,
        source_digest: str = "",
    ) -> None:
        super().__init__(
            PairReaderSpec(
                examples=examples,
                embeddings=embeddings,
                previous=previous,
                most_pairs=most_pairs,
                source_digest=source_digest,
                readings=Channel(type=PairReadings),
            )
        )
