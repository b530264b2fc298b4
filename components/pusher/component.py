"""Pusher: TFX's, with a push that a server never sees half of."""

from tfx.components import Pusher as StockPusher
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import pusher_pb2
from tfx.types import channel

from components.pusher.executor import Executor
from heft.serving_settings import ServingSettings

__all__ = ["Pusher"]


class Pusher(StockPusher):
    """Pushes a model that is blessed, under the time of its export, and keeps the last versions."""

    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        model: channel.BaseChannel,
        model_blessing: channel.BaseChannel,
        infra_blessing: channel.BaseChannel,
        folder: str,
        settings: ServingSettings | None = None,
        source_digest: str = "",
    ) -> None:
        settings = settings or ServingSettings()
        super().__init__(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            push_destination=pusher_pb2.PushDestination(
                filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=folder)
            ),
            custom_config={
                "keep_versions": settings.keep_versions,
                "models_config": settings.models_config,
                "source_digest": source_digest,
            },
        )
