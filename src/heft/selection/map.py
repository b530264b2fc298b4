"""A map of titles: neighbours in meaning are neighbours on paper."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from heft import features as f
from heft.selection.settings import RankingSettings
from heft.text.table import TextTable

__all__ = ["MAP_FILE", "TitleMap", "draw_map"]

MAP_FILE = "map.json"
_FEWEST = 5  # fewer have no neighbourhoods

Array = np.ndarray


@dataclass(frozen=True)
class TitleMap:
    """Titles on a plane, lists of one length.

    Attributes:
        x, y: places; distances between far ones mean little.
        category: value of the first categorical column, "" where there is none.
        importance: mean weight of the title's rows as samples of clicks, |w⁺| + |w⁻|.
    """

    x: list[float]
    y: list[float]
    category: list[str]
    importance: list[float]

    def save(self, uri: str) -> None:
        """Writes `map.json` into the folder `uri`."""
        tf.io.gfile.makedirs(uri)
        with tf.io.gfile.GFile(f"{uri}/{MAP_FILE}", "w") as file:
            file.write(json.dumps(asdict(self)))

    @classmethod
    def load(cls, uri: str) -> "TitleMap | None":
        """Reads what `save` wrote; None where no map was drawn."""
        path = f"{uri}/{MAP_FILE}"
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            facts: dict[str, Any] = json.loads(file.read())
        return cls(**facts)


def draw_map(
    columns: dict[str, Array],
    table: TextTable,
    settings: RankingSettings,
    category: Array | None = None,
    names: tuple[str, ...] = (),
) -> TitleMap | None:
    """t-SNE (van der Maaten & Hinton 2008) of titles that were shown; None of fewer than five.

    Titles are drawn in proportion to their rows, without replacement. The same rows and
    seed draw the same map.

    Args:
        columns: title ids and the click weight pairs of sampled rows.
        table: that the ids point to.
        settings: `map_titles`, `perplexity` and `seed`.
        category: (n,) ids of the rows' first categorical column.
        names: of its values; further ids are "other".
    """
    ids = columns[f.TITLE_ID]
    known = np.flatnonzero(ids >= 0)
    titles, first, unit = np.unique(ids[known], return_index=True, return_inverse=True)
    rows = np.bincount(unit, minlength=len(titles))
    count = min(settings.map_titles, len(titles))
    if count < _FEWEST:
        return None
    rng = np.random.default_rng(settings.seed)
    drawn = np.sort(rng.choice(len(titles), count, replace=False, p=rows / rows.sum()))
    pairs = (f.positive_weight(f.CTR), f.negative_weight(f.CTR))
    weight = sum(np.abs(columns[name][known].astype(np.float64)) for name in pairs)
    importance = np.bincount(unit, weight, len(titles)) / rows
    vectors = np.asarray(table.titles[titles[drawn]], np.float32)
    near = min(settings.perplexity, (count - 1) / 3)
    # A step takes milliseconds; threads that wait for each other on busy cores take tenfold.
    with threadpool_limits(1):
        place = TSNE(perplexity=near, init="pca", random_state=settings.seed).fit_transform(vectors)
    values = [""] * count
    if category is not None:
        own = category[known][first][drawn]
        values = [names[k] if 0 <= k < len(names) else "other" for k in own]
    return TitleMap(
        x=np.round(place[:, 0].astype(float), 2).tolist(),
        y=np.round(place[:, 1].astype(float), 2).tolist(),
        category=values,
        importance=np.round(importance[drawn], 4).tolist(),
    )
