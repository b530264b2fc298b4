"""On which devices to train."""

import tensorflow as tf

from heft.errors import ConfigError

__all__ = ["is_chief", "several_workers", "training_strategy"]

_TRAINING = ("chief", "worker")


def training_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of tf.distribute by its name in the settings.

    | name | devices |
    |---|---|
    | `default` | those of all workers if `TF_CONFIG` names several, else as `mirrored` if there
    are several local GPUs, else one device |
    | `one_device` | the first GPU, or the CPU |
    | `mirrored` | all local GPUs; one CPU without any |
    | `multi_worker` | those of all workers in the environment's `TF_CONFIG` |
    | `tpu` | the TPU of this virtual machine |

    Each device takes its part of a batch, so that a step is the same on any number. For
    `multi_worker` this must be the first thing that a process asks of TensorFlow.

    Raises:
        ConfigError: an unknown name, no `TF_CONFIG`, TensorFlow was in use before, or
            `tpu` where there is none.
    """
    if name == "multi_worker" or (name == "default" and _workers_named() > 1):
        return _multi_worker()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "default":
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "tpu":
        return _tpu()
    raise ConfigError(
        f"strategy={name!r}: expected one of default, one_device, mirrored, multi_worker, tpu"
    )


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one of all workers that writes what training makes."""
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.cluster_spec().as_dict():
        return True
    if "chief" in resolver.cluster_spec().as_dict():
        return bool(resolver.task_type == "chief")
    return bool(resolver.task_type == "worker" and resolver.task_id == 0)


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether other processes train the same model."""
    resolver = strategy.cluster_resolver
    tasks = resolver.cluster_spec().as_dict() if resolver is not None else {}
    return sum(len(tasks.get(kind, ())) for kind in _TRAINING) > 1


def _workers_named() -> int:
    """In TF_CONFIG."""
    tasks = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec().as_dict()
    return sum(len(tasks.get(kind, ())) for kind in _TRAINING)


def _multi_worker() -> tf.distribute.Strategy:
    if not _workers_named():
        raise ConfigError(
            "strategy='multi_worker' without TF_CONFIG in the environment: expected the "
            "addresses of all workers there and the index of this one"
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            f"strategy='multi_worker': {error}; expected a process that has not used TensorFlow "
            "before, so start each worker on its own and not behind other components"
        ) from error


def _tpu() -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu="local")
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise ConfigError(
            f"strategy='tpu': no TPU was found on this machine ({error}); expected a TPU virtual "
            "machine, or strategy: default"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
