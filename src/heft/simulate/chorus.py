"""Reader of the Chorus electronics shop (o19s/chorus): 135 queries, three raters a pair."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from heft.errors import DataError
from heft.simulate.judgements import Judgements, checked, need_columns, need_file

__all__ = ["read_chorus"]

_RATINGS = "Broad_Query_Set_individual_ratings.csv"
_CENTS = 100.0
# A product class named by fewer products than this tells a model nothing.
_SMALLEST_CATEGORY = 20
_NO_CLASS = frozenset({"original", "black", "white", "silver", "grey", "blue", "stainless steel"})


def read_chorus(folder: Path) -> Judgements:
    """Judgements of a Chorus folder: the ratings csv and `*.json.zip` products.

    The grade is `final_rating`, the brand the supplier. Prices are in cents
    there and in whole currency here. The data has no category: it is read out
    of the title, which is supplier, product name, product class, attributes.

    Raises:
        DataError: the ratings are missing or of another shape, or an archive
            cannot be read.
    """
    path = need_file(folder / _RATINGS, "the Chorus ratings")
    ratings = pd.read_csv(path, dtype={"docid": str}, keep_default_na=False)
    need_columns(ratings, ["query", "docid", "name", "description", "final_rating"], path)
    ratings = ratings.rename(columns={"docid": "item_id", "final_rating": "grade"})
    catalogue = pd.concat([_products(folder), _unlisted(ratings)], ignore_index=True)
    return checked(ratings, catalogue, path)


def _products(folder: Path) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for archive in sorted(folder.glob("*.json.zip")):
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in sorted(opened.namelist()):
                    rows += json.loads(opened.read(name))
        except (zipfile.BadZipFile, json.JSONDecodeError) as error:
            raise DataError(
                f"{archive} cannot be read ({error}): expected a zip of a JSON list of products; "
                "fetch it again"
            ) from error
    table = pd.DataFrame(rows, columns=["id", "name", "title", "supplier", "price"])
    prices = pd.to_numeric(table["price"], errors="coerce") / _CENTS
    return pd.DataFrame(
        {
            "item_id": table["id"].astype(str),
            "title": table["title"],
            "category": _categories(table),
            "brand": table["supplier"],
            "price": prices.where(prices > 0),
        }
    )


def _categories(table: pd.DataFrame) -> pd.Series:
    """The product class: the first word after the name, with the lower-case words it leads."""
    rest = []
    for title, supplier, name in zip(table["title"], table["supplier"], table["name"], strict=True):
        start = f"{supplier} {name} "
        rest.append(title.removeprefix(start) if str(title).startswith(start) else "")
    named = pd.Series(rest, dtype=str).str.extract(r"^([A-Za-z/-]{3,}(?: [a-z/-]+)*)")[0]
    named = named.str.lower()
    common = named.map(named.value_counts()) >= _SMALLEST_CATEGORY
    return named.where(common & ~named.isin(_NO_CLASS), "other")


def _unlisted(ratings: pd.DataFrame) -> pd.DataFrame:
    """Rated items as the ratings describe them, for those no archive lists."""
    items = ratings.drop_duplicates("item_id")
    titles = [
        description if description.startswith(name) else f"{name} {description}".strip()
        for name, description in zip(items["name"].astype(str), items["description"], strict=True)
    ]
    return pd.DataFrame(
        {"item_id": items["item_id"], "title": titles, "category": "other", "brand": "",
         "price": np.nan}
    )  # fmt: skip
