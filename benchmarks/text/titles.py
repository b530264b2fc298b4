"""Texts of the shops that the text benchmarks run on."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from heft.simulate.chorus import read_chorus
from heft.simulate.home_depot import read_home_depot

__all__ = ["data_folder", "every_text", "home_depot_pairs", "home_depot_titles"]

_PRODUCTS = 10


def data_folder() -> Path:
    """What HEFT_DATA names, or `../shared/data`."""
    return Path(os.environ.get("HEFT_DATA", "../shared/data"))


def home_depot_pairs(titles: int) -> pd.DataFrame:
    """Columns query, title and grade (0..3): whole queries of home_depot with ten products or more.

    Queries are drawn with a fixed seed until they have that many distinct titles.
    """
    judged = read_home_depot(data_folder() / "home_depot")
    names = judged.catalogue.set_index("item_id")["title"]
    pairs = judged.pairs.assign(title=judged.pairs["item_id"].map(names))
    pairs = pairs[pairs.groupby("query")["title"].transform("size") >= _PRODUCTS]
    queries = pairs["query"].unique()
    np.random.default_rng(0).shuffle(queries)
    place = pairs["query"].map({query: i for i, query in enumerate(queries)})
    pairs = pairs.assign(place=place).sort_values("place", kind="stable")
    seen = (~pairs["title"].duplicated()).cumsum()
    last = pairs["place"][seen <= titles].max()
    return pairs[pairs["place"] <= last][["query", "title", "grade"]].reset_index(drop=True)


def home_depot_titles(count: int) -> list[str]:
    """Distinct titles of `home_depot_pairs`, then others, in a fixed order."""
    judged = read_home_depot(data_folder() / "home_depot")
    titles = pd.concat([home_depot_pairs(count)["title"], judged.catalogue["title"]])
    return titles.drop_duplicates().tolist()[:count]


def every_text() -> list[str]:
    """Every distinct query and title of home_depot and chorus."""
    texts: dict[str, None] = {}
    for name, read in (("home_depot", read_home_depot), ("chorus", read_chorus)):
        judged = read(data_folder() / name)
        texts |= dict.fromkeys(judged.pairs["query"]) | dict.fromkeys(judged.catalogue["title"])
    return list(texts)
