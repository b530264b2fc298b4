"""The street: every node in the order in which data walks it."""

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import pusher_pb2, transform_pb2
from tfx.types import Channel, standard_artifacts
from tfx.types.artifact import Artifact

from components.anomaly_gate.component import AnomalyGate
from components.artifacts import PairReadings
from components.importance_estimator.component import ImportanceEstimator
from components.log_example_gen.component import LogExampleGen
from components.log_transform.component import LogTransform
from components.pair_reader.component import PairReader
from components.report.component import ReportGen
from components.serving_validator.component import ServingValidator
from components.text_embedder.component import TextEmbedder
from components.weighted_trainer.component import WeightedTrainer
from components.weighting_judge.component import WeightingJudge
from heft import features as f
from pipeline.beam import beam_args
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest
from pipeline.evaluation import eval_config
from pipeline.places import Places
from pipeline.resolvers import BlessedBefore, LatestBefore

__all__ = ["create_pipeline"]


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
    nodes: list[BaseNode] = []

    def add(node: BaseNode) -> BaseNode:
        nodes.append(node)
        return node

    logs = add(LogExampleGen(config.logs, input_fingerprint, _digest("log_example_gen")))
    examples = logs.outputs["examples"]
    statistics = add(
        tfx.components.StatisticsGen(
            examples=examples, exclude_splits=[s for s in f.SPLITS if s not in (f.TRAIN, f.NATURAL)]
        )
    )
    schema = add(_schema(places, statistics))
    earlier = add(
        _latest_before(
            "previous_statistics",
            standard_artifacts.ExampleStatistics,
            statistics.outputs["statistics"],
        )
    )
    gate = add(
        AnomalyGate(
            statistics.outputs["statistics"],
            schema.outputs["schema"],
            earlier.outputs["earlier"],
            _digest("anomaly_gate"),
        )
    )
    transform = add(_transform(config, examples, schema.outputs["schema"]))
    transform.add_upstream_node(gate)
    graph = transform.outputs["transform_graph"]
    embedder = add(
        TextEmbedder(
            transform_graph=graph,
            examples=transform.outputs["transformed_examples"],
            settings=config.text,
            source_digest=_digest("text_embedder"),
        )
    )
    readings = None
    if config.importance.asks_for("attention"):
        before = _latest_before("previous_readings", PairReadings, embedder.outputs["embeddings"])
        reader = PairReader(
            transform.outputs["transformed_examples"],
            embedder.outputs["embeddings"],
            config.importance.attention_pairs,
            add(before).outputs["earlier"],
            _digest("pair_reader"),
        )
        readings = add(reader).outputs["readings"]
    weigher = add(
        ImportanceEstimator(
            transform.outputs["transformed_examples"],
            graph,
            embedder.outputs["embeddings"],
            config.importance,
            _digest("importance_estimator"),
            readings,
        )
    )
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
        )
    )
    model = trainer.outputs["model"]
    baseline = add(_blessed_before("latest_blessed_model", model))
    evaluator = add(
        tfx.components.Evaluator(
            examples=examples,
            model=model,
            baseline_model=baseline.outputs["model"],
            eval_config=eval_config(config.thresholds, config.slices),
            example_splits=[f.NATURAL],
        )
    )
    judge = add(
        WeightingJudge(
            examples,
            model,
            trainer.outputs["control_model"],
            evaluator.outputs["blessing"],
            config.evaluation,
            config.slices,
            _digest("weighting_judge"),
        )
    )
    serving = add(
        ServingValidator(
            model=model,
            examples=examples,
            settings=config.serving_check,
            # The server is a process of its own, which no import reaches.
            source_digest=source_digest(
                "components.serving_validator.executor", "serving.local_server"
            ),
        )
    )
    pusher = add(
        tfx.components.Pusher(
            model=model,
            model_blessing=judge.outputs["blessing"],
            infra_blessing=serving.outputs["blessing"],
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=places.serving)
            ),
        )
    )
    add(
        ReportGen(
            quarantine=logs.outputs["quarantine"],
            embeddings=embedder.outputs["embeddings"],
            importance=weigher.outputs["importance"],
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
    return Pipeline(
        pipeline_name=config.name,
        pipeline_root=places.root,
        components=nodes,
        enable_cache=True,
        metadata_connection_config=(
            tfx.orchestration.metadata.sqlite_metadata_connection_config(places.metadata)
        ),
        beam_pipeline_args=beam_args(config.beam),
    )


def _digest(component: str) -> str:
    return source_digest(f"components.{component}.executor")


def _schema(places: Places, statistics: BaseNode) -> BaseNode:
    """The schema from git; inferred, to be reviewed, where a config names none."""
    if places.schema_file is None:
        return tfx.components.SchemaGen(
            statistics=statistics.outputs["statistics"], infer_feature_shape=False
        )
    return tfx.components.ImportSchemaGen(schema_file=places.schema_file)


def _transform(config: PipelineConfig, examples: Channel, schema: Channel) -> BaseNode:
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
            # Not of components.udfs, which would run Transform again for a change of the model.
            "source_digest": source_digest("heft.transform", "components.log_transform.executor"),
        },
        disable_statistics=True,
    ).with_id("Transform")


def _latest_before(name: str, kind: type[Artifact], candidate: Channel) -> BaseNode:
    earlier = Channel(type=kind)
    return tfx.dsl.Resolver(
        strategy_class=LatestBefore, earlier=earlier, candidate=candidate
    ).with_id(name)


def _blessed_before(name: str, candidate: Channel) -> BaseNode:
    """The latest blessed model that is older than `candidate`, if there is one."""
    return tfx.dsl.Resolver(
        strategy_class=BlessedBefore,
        model=Channel(type=standard_artifacts.Model),
        model_blessing=Channel(
            type=standard_artifacts.ModelBlessing, producer_component_id="WeightingJudge"
        ),
        candidate=candidate,
    ).with_id(name)
