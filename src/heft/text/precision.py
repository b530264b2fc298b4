"""How a batch of token ids becomes vectors: in float32, bfloat16 or int8, on what there is."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from heft.errors import EncoderError
from heft.text.encoder import TextEncoder
from heft.text.quantised import quantised_encoder
from heft.text.settings import Precision

__all__ = ["BatchEncoder", "accelerators", "batch_encoder"]

Array = np.ndarray
Batch = tuple[Array, Array]

_LEAST_COSINE = 0.98
_CHECKED, _CHECKED_LENGTH = 48, 24
_BATCHES_A_CORE = 4  # taken at once, so that cores seldom wait for each other
_TPU_STEP = 16  # a TPU compiles each shape, so lengths and rows come in few


@dataclass(frozen=True)
class BatchEncoder:
    """Encodes several batches at once.

    Attributes:
        encode: takes batches of token ids and mask, both (n, length) int32; gives the
            unit vectors of each, (n, dim) float32.
        width: how many batches it can work on at a time.
    """

    encode: Callable[[Sequence[Batch]], list[Array]]
    width: int


def batch_encoder(
    encoder: TextEncoder, precision: Precision = "float32", devices: Sequence[str] | None = None
) -> BatchEncoder:
    """The fastest way to encode here in that precision.

    In float32 on a processor it follows the encoder's weights; all else copies them as they are.

    Args:
        encoder: from `load_encoder`; its own weights are float32 and stay so.
        precision: see `TextSettings`.
        devices: names such as `GPU:0`, over which `tf.distribute` spreads batches;
            all GPUs and TPUs unless given.

    Raises:
        EncoderError: int8 where there is an accelerator, or with a checkpoint where it is
            not near float32.
    """
    devices = tuple(accelerators() if devices is None else devices)
    if precision == "int8":
        if devices:
            raise EncoderError(
                f"precision='int8' is for processors, but there is {devices[0]}; "
                "expected 'float32' or 'bfloat16' here"
            )
        return _on_cores(_checked_int8(encoder))
    if devices or precision == "bfloat16":
        return _spread(encoder, precision, devices or ("CPU:0",))
    return _on_cores(lambda tokens, mask: encoder.encode_batch(tokens, mask).numpy())


def accelerators() -> list[str]:
    """The GPUs and TPUs that TensorFlow sees."""
    devices = [d for kind in ("GPU", "TPU") for d in tf.config.list_logical_devices(kind)]
    return [device.name.split("device:")[-1] for device in devices]


def _on_cores(encode: Callable[[Array, Array], Array]) -> BatchEncoder:
    """One thread for each core: while one prepares or waits, another computes."""
    cores = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(cores)

    def every(batches: Sequence[Batch]) -> list[Array]:
        return list(pool.map(lambda batch: encode(*batch), batches))

    return BatchEncoder(every, _BATCHES_A_CORE * cores)


def _checked_int8(encoder: TextEncoder) -> Callable[[Array, Array], Array]:
    """The int8 encoder, once it has come near float32 on random tokens.

    Not every checkpoint bears eight bits.
    """
    tokens, mask = _random_texts(encoder)
    encode = quantised_encoder(encoder.backbone, encoder.pooling, 1, (tokens, mask))
    cosine = (encode(tokens, mask) * encoder.encode_batch(tokens, mask).numpy()).sum(axis=1).min()
    if not cosine >= _LEAST_COSINE:
        raise EncoderError(
            f"precision='int8' gives a cosine of {cosine:.4f} to float32 on this processor with "
            f"this checkpoint, expected at least {_LEAST_COSINE}; choose 'float32' or 'bfloat16'"
        )
    return encode


def _random_texts(encoder: TextEncoder) -> tuple[Array, Array]:
    """Ids and mask of texts of any tokens, short and long; the same each time."""
    rng = np.random.default_rng(0)
    longest = min(_CHECKED_LENGTH, encoder.backbone.max_sequence_length)
    tokens = rng.integers(
        encoder.backbone.vocabulary_size, size=(_CHECKED, longest), dtype=np.int32
    )
    lengths = np.linspace(2, longest, _CHECKED).astype(np.int32)
    mask = (np.arange(longest) < lengths[:, np.newaxis]).astype(np.int32)
    tokens[:, 0] = encoder.tokenizer.start_id
    tokens[np.arange(_CHECKED), lengths - 1] = encoder.tokenizer.end_id
    return tokens * mask, mask


def _spread(encoder: TextEncoder, precision: Precision, devices: Sequence[str]) -> BatchEncoder:
    """One copy of the encoder on each device, each with batches of its own."""
    tpu = devices[0].startswith("TPU")
    strategy = (
        tf.distribute.TPUStrategy(tf.distribute.cluster_resolver.TPUClusterResolver())
        if tpu
        else tf.distribute.MirroredStrategy(devices)
    )
    with strategy.scope():
        copy = encoder.copied("mixed_bfloat16" if precision == "bfloat16" else "float32")

    # Shapes differ from call to call and device to device: after two, they are left open.
    @tf.function(autograph=False, reduce_retracing=not tpu)
    def step(tokens: Any, mask: Any) -> Any:
        return strategy.run(copy.encode, args=(tokens, mask))

    def every(batches: Sequence[Batch]) -> list[Array]:
        replicas, found = strategy.num_replicas_in_sync, []
        for start in range(0, len(batches), replicas):
            part = list(batches[start : start + replicas])
            full = [_stepped(batch) if tpu else batch for batch in part]
            full += full[:1] * (replicas - len(part))  # nothing left for the others to do
            tokens, mask = (_per_replica(strategy, [b[k] for b in full]) for k in (0, 1))
            found.append(strategy.experimental_local_results(step(tokens, mask))[: len(part)])
        flat = [vectors for group in found for vectors in group]
        return [v.numpy()[: len(b[0])] for v, b in zip(flat, batches, strict=True)]

    return BatchEncoder(every, _BATCHES_A_CORE * strategy.num_replicas_in_sync)


def _per_replica(strategy: tf.distribute.Strategy, values: list[Array]) -> Any:
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[context.replica_id_in_sync_group])
    )


def _stepped(batch: Batch) -> Batch:
    """With more padding: lengths in steps, rows to a power of two."""
    rows, length = batch[0].shape
    wanted = 1 << (rows - 1).bit_length(), -(-length // _TPU_STEP) * _TPU_STEP
    tokens, mask = np.zeros((2, *wanted), np.int32)
    tokens[:rows, :length], mask[:rows, :length] = batch
    mask[rows:, 0] = 1
    return tokens, mask
