"""FeatureRanker: correlation and mutual information of every feature, and a map of titles."""

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import FeatureRankings, TextEmbeddings
from components.feature_ranker.executor import Executor
from heft.selection.settings import RankingSettings
from heft.transform import TransformSettings

__all__ = ["FeatureRanker", "FeatureRankerSpec"]


class FeatureRankerSpec(ComponentSpec):
    """Weighted examples, Transform's graph and embeddings in, the ranking out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "transform": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
        "embeddings": ChannelParameter(type=TextEmbeddings),
    }
    OUTPUTS = {"ranking": ChannelParameter(type=FeatureRankings)}


class FeatureRanker(BaseBeamComponent):
    """Looks at a sample of the weighted train split."""

    SPEC_CLASS = FeatureRankerSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        embeddings: channel.BaseChannel,
        settings: RankingSettings,
        transform: TransformSettings,
        source_digest: str = "",
    ) -> None:
        super().__init__(
            FeatureRankerSpec(
                examples=examples,
                transform_graph=transform_graph,
                embeddings=embeddings,
                settings=settings.model_dump_json(),
                transform=transform.model_dump_json(),
                source_digest=source_digest,
                ranking=Channel(type=FeatureRankings),
            )
        )
