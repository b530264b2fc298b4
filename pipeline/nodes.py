"""Nodes of the street that take more than a line to set up."""

from tfx.components.schema_gen.component import SchemaGen
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.proto import transform_pb2
from tfx.types import Channel, standard_artifacts

from components.anomaly_gate.component import AnomalyGate
from components.feature_ranker.component import FeatureRanker
from components.fine_tuner.component import FineTuner
from components.importance_estimator.component import ImportanceEstimator
from components.log_transform.component import LogTransform
from components.text_embedder.component import TextEmbedder
from heft import features as f
from heft.gate.findings import FORMAT
from heft.gate.served import serving_fingerprint
from heft.gate.settings import LogColumns
from heft.logs.spans import SpanPattern
from heft.text.checkpoint import find_checkpoint, fingerprint
from heft.text.settings import TextSettings
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest
from pipeline.places import Places
from pipeline.resolvers import PassedBefore

__all__ = [
    "anomaly_gate",
    "fine_tuning",
    "log_columns",
    "ranker",
    "schema_node",
    "transform_node",
    "with_encoder",
]


def schema_node(places: Places, statistics: BaseNode) -> BaseNode:
    """The schema from git; inferred, to be reviewed, where a config names none."""
    if places.schema_file is None:
        return SchemaGen(statistics=statistics.outputs["statistics"], infer_feature_shape=False)
    return ImportSchemaGen(schema_file=places.schema_file)


def anomaly_gate(
    config: PipelineConfig, places: Places, logs: BaseNode, statistics: BaseNode, schema: BaseNode
) -> list[BaseNode]:
    """AnomalyGate, of what LogExampleGen wrote; before it the last spans that passed it."""
    gate = config.gate
    passed = Resolver(
        strategy_class=PassedBefore,
        config={"spans": gate.spans, "since": gate.since or 0, "gate_format": FORMAT},
        passed=Channel(
            type=standard_artifacts.ExampleAnomalies, producer_component_id="AnomalyGate"
        ),
        candidate=logs.outputs["examples"],
    ).with_id("passed_spans")
    node = AnomalyGate(
        logs.outputs["examples"],
        statistics.outputs["statistics"],
        schema.outputs["schema"],
        logs.outputs["quarantine"],
        gate,
        log_columns(config, reviewed=places.schema_file is not None),
        passed.outputs["passed"],
        serving_fingerprint(gate.serving),
        source_digest("components.anomaly_gate.executor"),
    )
    return [passed, node]


def log_columns(config: PipelineConfig, *, reviewed: bool) -> LogColumns:
    """What the gate has to know of a config's columns."""
    logs, seen = config.logs, config.transform
    return LogColumns(
        categorical=logs.categorical,
        numeric=logs.numeric,
        vectors=logs.vectors,
        history=logs.history,
        pii=tuple(dict.fromkeys((f.USER_ID, *logs.privacy.pii))),
        names_spans=SpanPattern(logs.impressions.path).has_span,
        window=logs.window,
        seen_categorical=seen.categorical,
        seen_numeric=seen.numeric,
        seen_vectors=seen.vectors,
        reviewed=reviewed,
    )


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
        # Nothing reads it, and the half of Transform's steps would be there to write it.
        disable_analyzer_cache=True,
    ).with_id("Transform")


def with_encoder(executor: str, text: TextSettings) -> str:
    """The digest of a node's code and of the encoder that it loads.

    A folder keeps its name when its content changes, as after each `heft finetune`.

    Raises:
        EncoderError: the encoder cannot be used; found here, before anything runs.
    """
    encoder = fingerprint(find_checkpoint(text.encoder).folder)
    return f"{source_digest(executor)}-{encoder}"


def fine_tuning(config: PipelineConfig, transform: BaseNode) -> list[BaseNode]:
    """The nodes that end in FineTuner.

    Where clicks count by their weights, these have to be known first: they are those of the
    parent's embeddings, without scores of quality and value, which are of no use here.
    """
    assert config.text.finetune is not None
    graph, examples = (transform.outputs[n] for n in ("transform_graph", "transformed_examples"))
    before: list[BaseNode] = []
    if config.text.finetune.weighted:
        embedder = TextEmbedder(
            transform_graph=graph,
            examples=examples,
            settings=config.text.model_copy(update={"finetune": None}),
            source_digest=with_encoder("components.text_embedder.executor", config.text),
        ).with_id("ParentEmbedder")
        weigher = ImportanceEstimator(
            examples,
            graph,
            embedder.outputs["embeddings"],
            config.importance.model_copy(update={"quality": {}, "value": {}}),
            source_digest("components.importance_estimator.executor"),
        ).with_id("ParentImportance")
        examples, before = weigher.outputs["weighted_examples"], [embedder, weigher]
    digest = with_encoder("components.fine_tuner.executor", config.text)
    tuner = FineTuner(graph, examples, config.text, digest)
    return [*before, tuner]


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
