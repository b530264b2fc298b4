"""LogExampleGen: raw logs in, joined and split examples out."""

from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import Channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.artifacts import Quarantine
from components.log_example_gen.executor import Executor
from heft.logs.settings import LogsSettings

__all__ = ["LogExampleGen", "LogExampleGenSpec"]


class LogExampleGenSpec(ComponentSpec):
    """Reads files, hence no inputs: the fingerprint stands for them in the cache key."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "input_fingerprint": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "quarantine": ChannelParameter(type=Quarantine),
    }


class LogExampleGen(BaseBeamComponent):
    """Joins impressions with clicks, conversions and the catalogue; see `heft.logs`.

    Args:
        settings: where the log is and how to read it.
        input_fingerprint: `heft.logs.input_fingerprint(settings)`.
        source_digest: of the code this node depends on.
    """

    SPEC_CLASS = LogExampleGenSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self, settings: LogsSettings, input_fingerprint: str, source_digest: str = ""
    ) -> None:
        super().__init__(
            LogExampleGenSpec(
                settings=settings.model_dump_json(),
                input_fingerprint=input_fingerprint,
                source_digest=source_digest,
                examples=Channel(type=standard_artifacts.Examples),
                quarantine=Channel(type=Quarantine),
            )
        )
