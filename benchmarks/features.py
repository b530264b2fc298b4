"""What the ranking of features costs, beside one column after the other in SciPy and scikit-learn.

    .venv/bin/python -m benchmarks.features

Random vectors and clicks: 5,000 queries and 20,000 titles of 384 dimensions, 100,000 rows. The
peers measure some columns of the rows written out (point-biserial and Spearman's correlation by
SciPy, mutual information of equal bins by pandas and scikit-learn), and are scaled up to all of
them. The last line is one JSON object.
"""

import argparse
import json
import resource
import time

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import mutual_info_score

from heft import features as f
from heft.console import quiet
from heft.model.network import InputSizes
from heft.selection.map import draw_map
from heft.selection.ranking import FeatureRanking, rank_rows
from heft.selection.rows import SampledRows
from heft.selection.settings import RankingSettings
from heft.text.reduction import Projection, Reduction
from heft.text.settings import TextSettings
from heft.text.table import TextTable

SIZES = InputSizes({"category_id": 50}, ("price_z",))
QUERIES, TITLES, WIDTH = 5_000, 20_000, 384


def main() -> None:
    """Times both, and says whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=8, help="that the peers measure")
    options = parser.parse_args()
    quiet()
    rng = np.random.default_rng(0)
    table, columns = _table(rng), _columns(options.rows, rng)
    settings = RankingSettings(weighted=False)
    clock = time.perf_counter()
    ranking = rank_rows(SampledRows(columns, options.rows), SIZES, table, settings)
    ours = time.perf_counter() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock = time.perf_counter()
    draw_map(columns, table, settings)
    drawn = time.perf_counter() - clock
    theirs, apart = _peers(ranking, columns, table, options.columns)
    facts = {
        "rows": options.rows, "features": len(ranking.features), "seconds": round(ours, 2),
        "map_seconds": round(drawn, 2), "peak_mb": round(peak), "peer_seconds": round(theirs, 1),
        "ratio": round(theirs / ours, 1), "largest_difference": apart,
    }  # fmt: skip
    print(json.dumps(facts))


def _table(rng: np.random.Generator) -> TextTable:
    def unit(rows: int) -> np.ndarray:
        vectors = rng.normal(size=(rows, WIDTH)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def projection(count: int) -> Projection:
        return Projection(np.zeros(WIDTH, np.float32), unit(count), np.zeros(count))

    queries, titles = unit(QUERIES), unit(TITLES)
    reduction = Reduction(title=projection(12), query=projection(0), product=projection(16))
    texts = ([b"q"] * QUERIES, [b"t"] * TITLES)
    return TextTable(queries, titles, *texts, reduction, "", TextSettings(), 0, 0)


def _columns(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in SIZES.dense}
    columns |= {
        f.QUERY_ID: (QUERIES * rng.random(rows) ** 2).astype(np.int64),
        f.TITLE_ID: (TITLES * rng.random(rows) ** 2).astype(np.int64),
        "category_id": rng.integers(0, 50, rows),
    }
    chance = 1 / (1 + np.exp(2 - columns["lexical_token_overlap"]))
    columns[f.CLICK] = (rng.random(rows) < chance).astype(np.int64)
    columns[f.CONVERSION] = columns[f.CLICK] * (rng.random(rows) < 0.2)
    for task in f.TASKS:
        label = columns[f.label_of(task)].astype(np.float32)
        columns[f.positive_weight(task)], columns[f.negative_weight(task)] = label, 1 - label
    return columns


def _peers(
    ranking: FeatureRanking, columns: dict[str, np.ndarray], table: TextTable, count: int
) -> tuple[float, float]:
    """Seconds for all numeric features, and the largest difference of a correlation."""
    found = {x.name: x.measures for x in ranking.features}
    vectors = {
        "query": table.queries[columns[f.QUERY_ID]], "title": table.titles[columns[f.TITLE_ID]],
    }  # fmt: skip
    vectors["product"] = vectors["query"] * vectors["title"]
    apart, clock = 0.0, time.perf_counter()
    for k in range(count):
        side = ("query", "title", "product")[k % 3]
        values = vectors[side][:, k]
        place = pd.qcut(values, 32, labels=False, duplicates="drop")
        for task in f.TASKS:
            label = columns[f.label_of(task)]
            pearson = stats.pointbiserialr(label, values).statistic
            spearman = stats.spearmanr(values, label).statistic
            mutual_info_score(place, label)
            mine = found[f"{side}_{k}"][task]
            apart = max(apart, abs(mine["correlation"] - pearson))
            apart = max(apart, abs(mine["rank_correlation"] - spearman))
    return (time.perf_counter() - clock) / count * len(ranking.features), apart


if __name__ == "__main__":
    main()
