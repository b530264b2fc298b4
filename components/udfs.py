"""What Transform and WeightedTrainer call: adapters from TFX's arguments to the library."""

from typing import Any

import tensorflow as tf
from tfx.components.trainer.fn_args_utils import FnArgs

from heft.model.materials import TrainingRun
from heft.model.run import train_and_export
from heft.model.settings import ModelSettings
from heft.transform import TransformSettings, preprocess


def preprocessing_fn(
    inputs: dict[str, tf.Tensor | tf.SparseTensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Transform's graph; `custom_config` holds TransformSettings as JSON, and the widths of
    columns that are lists."""
    settings = TransformSettings.model_validate_json(custom_config["settings"])
    return preprocess(inputs, settings, custom_config.get("widths", {}))


def run_fn(fn_args: FnArgs) -> None:
    """Trains the weighted model and its control, then exports both."""
    config = fn_args.custom_config
    run = TrainingRun(
        train_files=fn_args.train_files,
        tune_files=fn_args.eval_files,
        transform_uri=fn_args.transform_output,
        embeddings_uri=config["embeddings_uri"],
        importance_uri=config["importance_uri"],
        model_dir=fn_args.serving_model_dir,
        control_dir=config["control_dir"],
        log_dir=fn_args.model_run_dir,
        resume_dir=config["resume_dir"],
        base_model=fn_args.base_model,
        ranking_uri=config["ranking_uri"],
    )
    train_and_export(
        run,
        ModelSettings.model_validate_json(config["model"]),
        TransformSettings.model_validate_json(config["transform"]),
    )
    # TFX looks for it in every worker, of which the chief exports alone.
    tf.io.gfile.makedirs(fn_args.serving_model_dir)
