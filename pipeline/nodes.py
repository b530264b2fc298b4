"""Nodes of the street that take more than a line to set up."""

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import transform_pb2
from tfx.types import Channel

from components.feature_ranker.component import FeatureRanker
from components.log_transform.component import LogTransform
from heft import features as f
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest
from pipeline.places import Places

__all__ = ["ranker", "schema_node", "transform_node"]


def schema_node(places: Places, statistics: BaseNode) -> BaseNode:
    """The schema from git; inferred, to be reviewed, where a config names none."""
    if places.schema_file is None:
        return tfx.components.SchemaGen(
            statistics=statistics.outputs["statistics"], infer_feature_shape=False
        )
    return tfx.components.ImportSchemaGen(schema_file=places.schema_file)


def transform_node(config: PipelineConfig, examples: Channel, schema: Channel) -> BaseNode:
    """Texts of `tune` join the vocabulary, so that early stopping sees their vectors."""
    return LogTransform(
        examples=examples,
        schema=schema,
        preprocessing_fn="components.udfs.preprocessing_fn",
        splits_config=transform_pb2.SplitsConfig(
            analyze=[f.TRAIN, f.TUNE], transform=[f.TRAIN, f.TUNE, f.HARVEST]
        ),
        custom_config={
            "settings": config.transform.model_dump_json(),
            **({"widths": config.widths} if config.widths else {}),
            # Not of components.udfs, which would run Transform again for a change of the model.
            "source_digest": source_digest("heft.transform", "components.log_transform.executor"),
        },
        disable_statistics=True,
    ).with_id("Transform")


def ranker(
    config: PipelineConfig, transform: BaseNode, embedder: BaseNode, weigher: BaseNode
) -> BaseNode:
    """FeatureRanker, of what the model may see."""
    return FeatureRanker(
        weigher.outputs["weighted_examples"],
        transform.outputs["transform_graph"],
        embedder.outputs["embeddings"],
        config.ranking,
        config.transform,
        source_digest("components.feature_ranker.executor"),
    )
