"""Do the scores of words say what is lost without the word? Attributions beside leaving words out.

    .venv/bin/python -m benchmarks.explain

y is the cosine of a query and a title of the built-in shop's; each word of the title is left out in
turn, which is the slow, obvious way, and what y loses is correlated with the word's scores. The
last line is one JSON object: the mean correlation within a title, by kind of score.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import tensorflow as tf

from heft.console import quiet
from heft.simulate import SimulationSettings, simulate
from heft.text.embed import embed
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.settings import TextSettings
from heft.text.token_gradients import TokenGradients


def main() -> None:
    """Prints how well each kind of score agrees with leaving words out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    quiet()
    encoder = load_encoder(TextSettings())
    queries, titles = _pairs(options.pairs, options.seed)
    gradients = embed(queries, encoder)
    scores = TokenGradients(encoder).of(titles, gradients)
    found: dict[str, list[float]] = {"gradient": [], "integrated": []}
    for title, g, own in zip(titles, gradients, scores, strict=True):
        ids = encoder.tokenize_batch(tf.constant([title])).to_tensor().numpy()[0]
        lost = _lost(ids, g, encoder)
        for kind, values in found.items():
            values.append(float(np.corrcoef(getattr(own, kind)[1:-1], lost)[0, 1]))
    facts = {kind: round(float(np.nanmean(values)), 3) for kind, values in found.items()}
    print(json.dumps({"pairs": options.pairs, **facts}))


def _pairs(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Judged pairs of the built-in shop, at random."""
    with tempfile.TemporaryDirectory() as place:
        simulate(SimulationSettings(source="builtin", sessions=50, seed=seed), Path(place))
        grades = pd.read_parquet(Path(place) / "truth" / "grades.parquet")
        catalogue = pq.read_table(Path(place) / "catalogue").to_pandas()
    drawn = grades.merge(catalogue, on="item_id").sample(count, random_state=seed)
    return drawn["query"].tolist(), drawn["title"].tolist()


def _lost(ids: np.ndarray, g: np.ndarray, encoder: TextEncoder) -> np.ndarray:
    """What the cosine loses without each piece, but for the special ones."""

    def cosine(kept: np.ndarray) -> float:
        tokens = tf.constant(kept[None])
        return float(encoder.encode_batch(tokens, tf.ones_like(tokens)).numpy()[0] @ g)

    whole = cosine(ids)
    return np.array([whole - cosine(np.delete(ids, k)) for k in range(1, len(ids) - 1)])


if __name__ == "__main__":
    main()
