"""WeightedTrainer: TFX's Trainer, with the embedding table and the weights as inputs."""

from tfx.components.trainer.component import Trainer
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.proto import trainer_pb2
from tfx.types import Channel, channel, standard_artifacts
from tfx.types.component_spec import ChannelParameter
from tfx.types.standard_component_specs import TrainerSpec
from tfx.utils import json_utils

from components.artifacts import FeatureRankings, SampleImportance, TextEmbeddings
from components.weighted_trainer.executor import Executor
from heft import features as f
from heft.model.settings import ModelSettings
from heft.transform import TransformSettings

__all__ = ["WeightedTrainer"]


class WeightedTrainerSpec(TrainerSpec):
    """Trainer's spec with three more inputs and the control as one more output."""

    PARAMETERS = TrainerSpec.PARAMETERS
    INPUTS = TrainerSpec.INPUTS | {
        "embeddings": ChannelParameter(type=TextEmbeddings),
        "importance": ChannelParameter(type=SampleImportance),
        "ranking": ChannelParameter(type=FeatureRankings, optional=True),
    }
    OUTPUTS = TrainerSpec.OUTPUTS | {
        "control_model": ChannelParameter(type=standard_artifacts.Model),
    }


class WeightedTrainer(BaseComponent):
    """Trains the weighted model and, beside it, the same model without weights.

    `model.selection` needs `ranking`.
    """

    SPEC_CLASS = WeightedTrainerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
    TYPE_ANNOTATION = Trainer.SPEC_CLASS.TYPE_ANNOTATION

    def __init__(
        self,
        examples: channel.BaseChannel,
        transform_graph: channel.BaseChannel,
        embeddings: channel.BaseChannel,
        importance: channel.BaseChannel,
        model: ModelSettings,
        transform: TransformSettings,
        source_digest: str = "",
        base_model: channel.BaseChannel | None = None,
        ranking: channel.BaseChannel | None = None,
    ) -> None:
        config = {
            "model": model.model_dump_json(),
            "transform": transform.model_dump_json(),
            "source_digest": source_digest,
        }
        super().__init__(
            WeightedTrainerSpec(
                examples=examples,
                transform_graph=transform_graph,
                embeddings=embeddings,
                importance=importance,
                ranking=ranking,
                base_model=base_model,
                train_args=trainer_pb2.TrainArgs(splits=[f.TRAIN]),
                eval_args=trainer_pb2.EvalArgs(splits=[f.TUNE]),
                run_fn="components.udfs.run_fn",
                custom_config=json_utils.dumps(config),
                model=Channel(type=standard_artifacts.Model),
                model_run=Channel(type=standard_artifacts.ModelRun),
                control_model=Channel(type=standard_artifacts.Model),
            )
        )
