"""AnomalyGate: stops the run on a span that is not what it should be."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.anomaly_gate.executor import Executor
from components.artifacts import Quarantine
from heft.gate.settings import GateSettings, LogColumns

__all__ = ["AnomalyGate", "AnomalyGateSpec"]


class AnomalyGateSpec(ComponentSpec):
    """A span and what it is held against in, the anomalies out; an anomaly is an error."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "columns": ExecutionParameter(type=str),
        "serving_fingerprint": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "quarantine": ChannelParameter(type=Quarantine),
        "passed": ChannelParameter(type=standard_artifacts.ExampleAnomalies, optional=True),
    }
    OUTPUTS = {"anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class AnomalyGate(BaseComponent):
    """Holds a span against its schema, the last spans that passed, what is asked, and itself.

    Its artifact, which has everything the next spans are compared with, is there only if the
    span passed. What is found in one that does not lies in `rejected` beside it.

    Args:
        examples, statistics, quarantine: of the span.
        schema: that it must keep to.
        settings: thresholds.
        columns: of the log and the model.
        passed: artifacts of this component, of the last spans that passed.
        serving_fingerprint: of the serving data that the settings name.
        source_digest: of the code this node depends on.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        statistics: channel.BaseChannel,
        schema: channel.BaseChannel,
        quarantine: channel.BaseChannel,
        settings: GateSettings,
        columns: LogColumns,
        passed: channel.BaseChannel | None = None,
        serving_fingerprint: str = "",
        source_digest: str = "",
    ) -> None:
        super().__init__(
            AnomalyGateSpec(
                examples=examples,
                statistics=statistics,
                schema=schema,
                quarantine=quarantine,
                passed=passed,
                settings=settings.model_dump_json(),
                columns=columns.model_dump_json(),
                serving_fingerprint=serving_fingerprint,
                source_digest=source_digest,
                anomalies=Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
