"""The last nodes before the report: is the model fit to be served, and where it goes."""

from tfx.components.infra_validator.component import InfraValidator
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import infra_validator_pb2 as infra
from tfx.types import Channel

from components.pusher.component import Pusher
from components.serving_validator.component import ServingValidator
from heft import features as f
from heft.serving_settings import ServingSettings
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest

__all__ = ["push_node", "request_spec", "serving_check"]

_TRIES = 2


def serving_check(config: PipelineConfig, model: Channel, examples: Channel) -> BaseNode:
    """Heft's ServingValidator; TFX's InfraValidator where the config says there are containers."""
    if config.serving.validator == "stand_in":
        return ServingValidator(
            model=model,
            examples=examples,
            settings=config.serving_check,
            # The server is a process of its own, which no import reaches.
            source_digest=source_digest(
                "components.serving_validator.executor", "serving.local_server"
            ),
        )
    return InfraValidator(
        model=model,
        examples=examples,
        serving_spec=_serving_spec(config.serving),
        validation_spec=infra.ValidationSpec(
            max_loading_time_seconds=round(config.serving_check.timeout_seconds),
            num_tries=_TRIES,
        ),
        request_spec=request_spec(config.serving_check.rows),
    )


def request_spec(rows: int) -> infra.RequestSpec:
    """What InfraValidator asks: rows of natural data, one by one, as tf.Examples."""
    return infra.RequestSpec(
        tensorflow_serving=infra.TensorFlowServingRequestSpec(signature_names=["examples"]),
        split_name=f.NATURAL,
        num_examples=rows,
    )


def _serving_spec(settings: ServingSettings) -> infra.ServingSpec:
    spec = infra.ServingSpec(
        tensorflow_serving=infra.TensorFlowServing(image_name=settings.image, tags=[settings.tag]),
        model_name="heft",
    )
    if settings.validator == "docker":
        spec.local_docker.SetInParent()
    else:
        spec.kubernetes.service_account_name = settings.service_account
    return spec


def push_node(
    config: PipelineConfig, model: Channel, blessing: Channel, infra_blessing: Channel, folder: str
) -> BaseNode:
    """Pusher, below `folder`."""
    return Pusher(
        model,
        blessing,
        infra_blessing,
        folder,
        config.serving,
        source_digest("components.pusher.executor"),
    )
