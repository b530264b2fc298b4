"""On which devices to train."""

import tensorflow as tf

from heft.errors import ConfigError

__all__ = ["training_strategy"]


def training_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of tf.distribute by its name in the settings.

    | name | devices |
    |---|---|
    | `default` | all local GPUs if there are two or more, else one device |
    | `one_device` | the first GPU, or the CPU |
    | `mirrored` | all local GPUs; one CPU without any |
    | `multi_worker` | those of all workers in the environment's `TF_CONFIG` |
    | `tpu` | the TPU of this virtual machine |

    Each device takes its part of a batch, so that a step is the same on any number.

    Raises:
        ConfigError: an unknown name, or `tpu` where there is none.
    """
    gpus = tf.config.list_logical_devices("GPU")
    if name == "default":
        return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0")
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu()
    raise ConfigError(
        f"strategy={name!r}: expected one of default, one_device, mirrored, multi_worker, tpu"
    )


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
