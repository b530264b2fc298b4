"""Texts of the shops that the text benchmarks run on."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from heft.simulate.home_depot import read_home_depot

__all__ = ["data_folder", "graded_pairs", "home_depot_titles"]


def data_folder() -> Path:
    """What HEFT_DATA names, or `../shared/data`."""
    return Path(os.environ.get("HEFT_DATA", "../shared/data"))


def home_depot_titles(count: int) -> list[str]:
    """Distinct titles of home_depot, drawn with a fixed seed in the order of the catalogue.

    Args:
        count: how many; all of them if there are fewer.
    """
    titles = read_home_depot(data_folder() / "home_depot").catalogue["title"].drop_duplicates()
    if count >= len(titles):
        return titles.tolist()
    drawn = np.random.default_rng(0).choice(len(titles), count, replace=False)
    return titles.iloc[np.sort(drawn)].tolist()


def graded_pairs() -> pd.DataFrame:
    """Columns query, title and grade (0..3) of home_depot's judgements."""
    judged = read_home_depot(data_folder() / "home_depot")
    titles = judged.catalogue.set_index("item_id")["title"]
    pairs = judged.pairs.assign(title=judged.pairs["item_id"].map(titles))
    return pairs[["query", "title", "grade"]]
