"""AnomalyGate: stops the run on data that the schema does not allow."""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.anomaly_gate.executor import Executor


class AnomalyGateSpec(ComponentSpec):
    """Statistics and schema in, the anomalies out; an anomaly is an error."""

    PARAMETERS = {"source_digest": ExecutionParameter(type=str)}
    INPUTS = {
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "previous_statistics": ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {"anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies)}


class AnomalyGate(BaseComponent):
    """Validates statistics against the schema and the previous span's statistics."""

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        schema: channel.BaseChannel,
        previous_statistics: channel.BaseChannel | None = None,
        source_digest: str = "",
    ) -> None:
        super().__init__(
            AnomalyGateSpec(
                statistics=statistics,
                schema=schema,
                previous_statistics=previous_statistics,
                source_digest=source_digest,
                anomalies=Channel(type=standard_artifacts.ExampleAnomalies),
            )
        )
