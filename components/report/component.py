"""ReportGen: what a run found, as facts and as one HTML file."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import (
    FeatureRankings,
    Quarantine,
    Report,
    SampleImportance,
    TextEmbeddings,
    WeightingVerdict,
)
from components.report.executor import Executor


class ReportGenSpec(ComponentSpec):
    """Everything worth telling in, the report out. `run` is facts known before, as JSON."""

    PARAMETERS = {
        "run": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "quarantine": ChannelParameter(type=Quarantine),
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "embeddings": ChannelParameter(type=TextEmbeddings),
        "importance": ChannelParameter(type=SampleImportance),
        "ranking": ChannelParameter(type=FeatureRankings),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun),
        "evaluator_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "verdict": ChannelParameter(type=WeightingVerdict),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=standard_artifacts.InfraBlessing),
        "pushed_model": ChannelParameter(type=standard_artifacts.PushedModel),
    }
    OUTPUTS = {"report": ChannelParameter(type=Report)}


class ReportGen(BaseComponent):
    """Collects a run's facts and renders them."""

    SPEC_CLASS = ReportGenSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, *, run: str, source_digest: str = "", **inputs: channel.BaseChannel) -> None:
        spec = ReportGenSpec(
            run=run, source_digest=source_digest, report=Channel(type=Report), **inputs
        )
        super().__init__(spec)
