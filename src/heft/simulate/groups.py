"""Queries split into those that train, those that arrive late, and those kept for the test."""

import numpy as np
import pandas as pd

from heft.errors import DataError
from heft.simulate.judgements import Judgements

__all__ = ["GROUPS", "TEST", "TRAIN", "TUNE", "split_queries"]

TRAIN, TUNE, TEST = "train", "tune", "test"
GROUPS = (TRAIN, TUNE, TEST)
_TRAIN_SHARE, _TUNE_SHARE = 0.6, 0.1


def split_queries(
    judgements: Judgements, min_candidates: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The queries with their group: 60 % train, 10 % tune, 30 % test.

    Queries with `min_candidates` judged items, which alone can be logged, and
    the others are split apart, so that each group has queries of the first kind.

    Returns:
        query (sorted), judged (number of judged items), loggable, group.

    Raises:
        DataError: fewer than three queries have `min_candidates` judged items.
    """
    counts = judgements.pairs["query"].value_counts().sort_index()
    queries = pd.DataFrame({"query": counts.index, "judged": counts.to_numpy(), "group": ""})
    enough = queries["judged"] >= min_candidates
    if enough.sum() < len(GROUPS):
        raise DataError(
            f"{enough.sum()} queries have min_candidates={min_candidates} or more judged items: "
            f"expected {len(GROUPS)} at least, one for each group (train, tune, test); add "
            "judgements or lower min_candidates"
        )
    for chosen in (enough, ~enough):
        rows = np.flatnonzero(chosen)
        queries.loc[rng.permutation(rows), "group"] = _labels(len(rows))
    return queries.assign(loggable=enough & (queries["group"] != TEST))


def _labels(count: int) -> list[str]:
    # Of three queries, one for each group.
    train = max(min(round(_TRAIN_SHARE * count), count - 2), 1)
    tune = max(round(_TUNE_SHARE * count), 1)
    return ([TRAIN] * train + [TUNE] * tune + [TEST] * count)[:count]
