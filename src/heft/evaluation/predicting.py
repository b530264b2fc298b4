"""What an exported model says of examples."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the tokeniser's ops

from heft import features as f
from heft.examples import Feature, read_columns

__all__ = ["base_rates", "predict_examples"]

BATCH = 16_384  # a text that is new is encoded once in each

Array = np.ndarray


def predict_examples(
    model: tf.Module, paths: Sequence[str], *, with_position: bool = True
) -> dict[str, Array]:
    """`ctr`, `cvr` and `ctcvr` of every example in `paths`, each (rows,), in order.

    Args:
        model: a SavedModel with an `examples` signature.
        paths: gzipped TFRecord shards.
        with_position: predict for the position that was logged, else for the
            reference position of the model.
    """
    signature = model.signatures["examples"]
    batches = []
    for path in paths:
        for rows in tf.data.TFRecordDataset(path, compression_type="GZIP").batch(BATCH):
            batch = rows if with_position else _without_position(rows.numpy())
            batches.append({k: v.numpy() for k, v in signature(examples=batch).items()})
    return {
        name: np.concatenate([b[name] for b in batches]).astype(np.float64)
        for name in (f.CTR, f.CVR, f.CTCVR)
    }


def base_rates(split_uris: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The share of training impressions with a click and with a conversion, by head.

    Negatives that were sampled down count for those that were left out.

    Args:
        split_uris: shards by split; without `train`, the latest logged pages stand for it.
    """
    paths = split_uris.get(f.TRAIN) or split_uris[f.NATURAL]
    wanted = [Feature(f.CLICK, int), Feature(f.CONVERSION, int), Feature(f.SAMPLING, float, 1.0)]
    columns = read_columns(list(paths), wanted)
    weight = 1 / columns[f.SAMPLING].astype(np.float64)
    rates = {
        head: float(np.average(columns[label] > 0, weights=weight)) if weight.size else 0.0
        for head, label in ((f.CTR, f.CLICK), (f.CTCVR, f.CONVERSION))
    }
    rates[f.CVR] = rates[f.CTCVR] / rates[f.CTR] if rates[f.CTR] else 0.0
    return rates


def _without_position(rows: Array) -> tf.Tensor:
    stripped = []
    for row in rows:
        example = tf.train.Example.FromString(row)
        example.features.feature.pop(f.POSITION, None)
        stripped.append(example.SerializeToString())
    return tf.constant(stripped)
