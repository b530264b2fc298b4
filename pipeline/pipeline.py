"""The street: every node in the order in which data walks it."""

from collections.abc import Callable
from typing import NamedTuple

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.resolver import Resolver
from tfx.orchestration.pipeline import Pipeline
from tfx.types import Channel, standard_artifacts
from tfx.types.artifact import Artifact

from components.artifacts import PairReadings, TextEmbeddings
from components.importance_estimator.component import ImportanceEstimator
from components.log_example_gen.component import LogExampleGen
from components.log_statistics.component import LogStatistics
from components.pair_reader.component import PairReader
from components.report.component import ReportGen
from components.text_embedder.component import TextEmbedder
from components.weighted_trainer.component import WeightedTrainer
from heft import features as f
from pipeline.beam import beam_args
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest
from pipeline.judging import judge_nodes
from pipeline.metadata import connection
from pipeline.nodes import (
    anomaly_gate,
    fine_tuning,
    ranker,
    schema_node,
    transform_node,
    with_encoder,
)
from pipeline.places import Places
from pipeline.resolvers import BlessedBefore, LatestBefore
from pipeline.shipping import push_node, serving_check

__all__ = [
    "create_finetuning_pipeline", "create_pipeline", "create_statistics_pipeline",
    "create_weighing_pipeline", "street_nodes",
]  # fmt: skip


def create_pipeline(
    config: PipelineConfig, places: Places, input_fingerprint: str, run_facts: str = "{}"
) -> Pipeline:
    """The pipeline of one run.

    Args:
        config: every setting.
        places: every folder.
        input_fingerprint: of the logs, so that the cache follows the data.
        run_facts: what the report says of the run itself, as JSON.
    """
    nodes = street_nodes(config, places, input_fingerprint, run_facts)
    return _pipeline(nodes, config, places)


def street_nodes(
    config: PipelineConfig, places: Places, input_fingerprint: str, run_facts: str = "{}"
) -> list[BaseNode]:
    """The nodes of `create_pipeline`, in order."""
    nodes: list[BaseNode] = []
    add = _adder(nodes)
    street = _weigh(add, config, places, input_fingerprint)
    examples, weigher, embedder = street.logs.outputs["examples"], street.weigher, street.embedder
    graph = street.transform.outputs["transform_graph"]
    ranking = add(ranker(config, *street[1:])).outputs["ranking"]
    base = None
    if config.model.warm_start:
        older = _blessed_before("base_model", weigher.outputs["importance"])
        base = add(older).outputs["model"]
    trainer = add(
        WeightedTrainer(
            weigher.outputs["weighted_examples"],
            graph,
            embedder.outputs["embeddings"],
            weigher.outputs["importance"],
            config.model,
            config.transform,
            source_digest("components.udfs", "components.weighted_trainer.executor"),
            base,
            ranking if config.model.selection else None,
        )
    )
    model = trainer.outputs["model"]
    last = add(_blessed_before("latest_blessed_model", model)).outputs["model"]
    judging = judge_nodes(config, examples, weigher.outputs["importance"], trainer, last)
    for node in judging:
        add(node)
    _, evaluator, judge = judging
    serving = add(serving_check(config, model, examples))
    pusher = add(
        push_node(
            config, model, judge.outputs["blessing"], serving.outputs["blessing"], places.serving
        )
    )
    add(
        ReportGen(
            quarantine=street.logs.outputs["quarantine"],
            examples=examples,
            anomalies=_named(nodes, "AnomalyGate").outputs["anomalies"],
            embeddings=embedder.outputs["embeddings"],
            importance=weigher.outputs["importance"],
            ranking=ranking,
            model=model,
            model_run=trainer.outputs["model_run"],
            evaluator_blessing=evaluator.outputs["blessing"],
            evaluation=evaluator.outputs["evaluation"],
            verdict=judge.outputs["verdict"],
            blessing=judge.outputs["blessing"],
            infra_blessing=serving.outputs["blessing"],
            pushed_model=pusher.outputs["pushed_model"],
            run=run_facts,
            source_digest=_digest("report"),
        )
    )
    return nodes


def create_weighing_pipeline(
    config: PipelineConfig, places: Places, input_fingerprint: str
) -> Pipeline:
    """The nodes up to ImportanceEstimator, each as in `create_pipeline`, whose cache they share.

    FeatureRanker is one of them where the model selects features.
    """
    nodes: list[BaseNode] = []
    street = _weigh(_adder(nodes), config, places, input_fingerprint)
    if config.model.selection:
        nodes.append(ranker(config, *street[1:]))
    return _pipeline(nodes, config, places)


def create_statistics_pipeline(
    config: PipelineConfig, places: Places, input_fingerprint: str
) -> Pipeline:
    """LogExampleGen and StatisticsGen, each as in `create_pipeline`, whose cache they share."""
    nodes: list[BaseNode] = []
    _looked_at(_adder(nodes), config, input_fingerprint)
    return _pipeline(nodes, config, places)


def create_finetuning_pipeline(
    config: PipelineConfig, places: Places, input_fingerprint: str
) -> Pipeline:
    """The nodes up to FineTuner, each as in `create_pipeline`, whose cache they share."""
    nodes: list[BaseNode] = []
    _, transform = _transformed(_adder(nodes), config, places, input_fingerprint)
    nodes += fine_tuning(config, transform)
    return _pipeline(nodes, config, places)


class _Street(NamedTuple):
    logs: BaseNode
    transform: BaseNode
    embedder: BaseNode
    weigher: BaseNode


def _looked_at(
    add: Callable[[BaseNode], BaseNode], config: PipelineConfig, fingerprint: str
) -> tuple[BaseNode, BaseNode]:
    """LogExampleGen and StatisticsGen."""
    logs = add(LogExampleGen(config.logs, fingerprint, _digest("log_example_gen")))
    unread = [split for split in f.SPLITS if split not in (f.TRAIN, f.NATURAL)]
    statistics = LogStatistics(examples=logs.outputs["examples"], exclude_splits=unread).with_id(
        "StatisticsGen"
    )
    return logs, add(statistics)


def _transformed(
    add: Callable[[BaseNode], BaseNode], config: PipelineConfig, places: Places, fingerprint: str
) -> tuple[BaseNode, BaseNode]:
    """LogExampleGen and Transform, and what lies between them."""
    logs, statistics = _looked_at(add, config, fingerprint)
    examples = logs.outputs["examples"]
    schema = add(schema_node(places, statistics))
    gate = [add(node) for node in anomaly_gate(config, places, logs, statistics, schema)][-1]
    transform = add(transform_node(config, examples, schema.outputs["schema"]))
    transform.add_upstream_node(gate)
    return logs, transform


def _weigh(
    add: Callable[[BaseNode], BaseNode], config: PipelineConfig, places: Places, fingerprint: str
) -> _Street:
    logs, transform = _transformed(add, config, places, fingerprint)
    encoder = None
    if config.text.finetune:
        encoder = [add(node) for node in fine_tuning(config, transform)][-1].outputs["encoder"]
    graph = transform.outputs["transform_graph"]
    before = add(_latest_before("previous_embeddings", TextEmbeddings, graph))
    embedder = add(
        TextEmbedder(
            transform_graph=graph,
            examples=transform.outputs["transformed_examples"],
            settings=config.text.model_copy(update={"finetune": None}),
            previous=before.outputs["earlier"],
            source_digest=with_encoder("components.text_embedder.executor", config.text),
            encoder=encoder,
        )
    )
    transformed, embeddings = transform.outputs["transformed_examples"], embedder.outputs
    weigher = add(
        ImportanceEstimator(
            transformed,
            graph,
            embeddings["embeddings"],
            config.importance,
            _digest("importance_estimator"),
            _readings(add, config, transformed, embeddings["embeddings"]),
        )
    )
    return _Street(logs, transform, embedder, weigher)


def _readings(
    add: Callable[[BaseNode], BaseNode],
    config: PipelineConfig,
    examples: Channel,
    embeddings: Channel,
) -> Channel | None:
    """What BERT reads in pairs, where a config asks for attention."""
    if not config.importance.asks_for("attention"):
        return None
    before = add(_latest_before("previous_readings", PairReadings, embeddings))
    reader = PairReader(
        examples,
        embeddings,
        config.importance.attention_pairs,
        before.outputs["earlier"],
        _digest("pair_reader"),
    )
    return add(reader).outputs["readings"]


def _named(nodes: list[BaseNode], name: str) -> BaseNode:
    return next(node for node in nodes if node.id == name)


def _adder(nodes: list[BaseNode]) -> Callable[[BaseNode], BaseNode]:
    def add(node: BaseNode) -> BaseNode:
        nodes.append(node)
        return node

    return add


def _pipeline(nodes: list[BaseNode], config: PipelineConfig, places: Places) -> Pipeline:
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=places.root,
        components=nodes,
        enable_cache=True,
        metadata_connection_config=connection(config.metadata, places.metadata),
        beam_pipeline_args=beam_args(config.beam),
    )


def _digest(component: str) -> str:
    return source_digest(f"components.{component}.executor")


def _latest_before(name: str, kind: type[Artifact], candidate: Channel) -> BaseNode:
    earlier = Channel(type=kind)
    return Resolver(strategy_class=LatestBefore, earlier=earlier, candidate=candidate).with_id(name)


def _blessed_before(name: str, candidate: Channel) -> BaseNode:
    """The latest blessed model that is older than `candidate`, if there is one."""
    return Resolver(
        strategy_class=BlessedBefore,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(
            type=standard_artifacts.ModelBlessing, producer_component_id="WeightingJudge"
        ),
        candidate=candidate,
    ).with_id(name)
