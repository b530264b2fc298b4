"""The exported graph against the table."""

import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks.text.titles import every_text
from heft.text.embed import embed
from heft.text.encoder import load_encoder
from heft.text.settings import TextSettings

__all__ = ["measure"]

_BATCH = 64


def measure(limit: int | None) -> dict[str, float | int]:
    """Least cosine of what the graph computes to the table's row, over every text there is."""
    texts = every_text()[:limit]
    settings = TextSettings()
    encoder = load_encoder(settings)
    began = time.perf_counter()
    table = embed(texts, encoder, settings.batch_size, settings.batch_tokens)
    print(f"table: {len(texts) / (time.perf_counter() - began):.0f} texts/s", flush=True)
    with tempfile.TemporaryDirectory(prefix="heft-text-") as folder:
        archive = keras.export.ExportArchive()
        archive.track(encoder.backbone)
        archive.add_endpoint(
            "embed", encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string)]
        )
        archive.write_out(str(Path(folder) / "saved"), verbose=False)
        # The name keeps its variables alive.
        served = tf.saved_model.load(str(Path(folder) / "saved"))
        order, least = np.argsort([len(text) for text in texts]), 1.0
        began = time.perf_counter()
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            got = served.embed(tf.constant([texts[row] for row in rows])).numpy()
            least = min(least, float((got * table[rows]).sum(axis=1).min()))
    print(f"graph: {len(texts) / (time.perf_counter() - began):.0f} texts/s", flush=True)
    return {"cosine_table_graph_min": round(least, 7), "texts_compared": len(texts)}
