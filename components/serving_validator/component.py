"""ServingValidator: does a server answer what the model predicts?"""

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.serving_validator.executor import Executor
from heft.serving_check import ServingCheckSettings

__all__ = ["ServingValidator", "ServingValidatorSpec"]


class ServingValidatorSpec(ComponentSpec):
    """A model and raw examples in; the blessing that Pusher takes as `infra_blessing` out."""

    PARAMETERS = {
        "settings": ExecutionParameter(type=str),
        "source_digest": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ServingValidator(BaseComponent):
    """Starts a server on the exported model and asks it real and hostile requests.

    It stands where InfraValidator stands, and needs no Docker.
    """

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        examples: channel.BaseChannel,
        settings: ServingCheckSettings | None = None,
        source_digest: str = "",
    ) -> None:
        super().__init__(
            ServingValidatorSpec(
                model=model,
                examples=examples,
                settings=(settings or ServingCheckSettings()).model_dump_json(),
                source_digest=source_digest,
                blessing=Channel(type=standard_artifacts.InfraBlessing),
            )
        )
