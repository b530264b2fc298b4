"""ImportanceEstimator: what each training sample is worth."""

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import PairReadings, SampleImportance, TextEmbeddings
from components.importance_estimator.executor import Executor
from heft.importance.settings import ImportanceSettings


class ImportanceEstimatorSpec(ComponentSpec):
    """Transformed examples and embeddings in, weighted examples out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "embeddings": ChannelParameter(type=TextEmbeddings),
        "readings": ChannelParameter(type=PairReadings, optional=True),
    }
    OUTPUTS = {
        "weighted_examples": ChannelParameter(type=standard_artifacts.Examples),
        "importance": ChannelParameter(type=SampleImportance),
    }


class ImportanceEstimator(BaseBeamComponent):
    """Scores training samples and writes them again with their weight pairs.

    The estimator `attention` needs `readings`.
    """

    SPEC_CLASS = ImportanceEstimatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        embeddings: channel.BaseChannel,
        settings: ImportanceSettings,
        source_digest: str = "",
        readings: channel.BaseChannel | None = None,
    ) -> None:
        super().__init__(
            ImportanceEstimatorSpec(
                examples=examples,
                transform_graph=transform_graph,
                embeddings=embeddings,
                readings=readings,
                settings=settings.model_dump_json(),
                source_digest=source_digest,
                weighted_examples=Channel(type=standard_artifacts.Examples),
                importance=Channel(type=SampleImportance),
            )
        )
