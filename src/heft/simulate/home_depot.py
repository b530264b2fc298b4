"""Reader of the Home Depot search relevance data: 74,067 pairs over 11,795 queries."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from heft.errors import DataError
from heft.simulate.judgements import Judgements, checked, need_columns, need_file

__all__ = ["read_home_depot"]

# Mean relevance of the raters, 1 to 3, to grades 0..3.
_CUTS = (1.5, 2.17, 2.84)
_COLUMNS = ["product_uid", "product_title", "search_term", "relevance"]
_BRAND = r"^(?:The\s+)?([A-Z][\w.&'-]*[A-Za-z])\b"
_MEDIAN_PRICE, _PRICE_SPREAD = 40.0, 1.1
# A head noun that fewer titles share tells a model nothing.
_SMALLEST_CATEGORY = 200


def read_home_depot(folder: Path) -> Judgements:
    """Judgements of a Home Depot folder, which holds `train.csv.zip`.

    The data has no price, category or brand. The category is the last word of
    the title before any attribute, where 200 products share it; the brand is
    the title's first word, where that is a name. **The price is made up**: log-normal about 40, the
    same for a product in every run, and says nothing about the product.

    Raises:
        DataError: the archive is missing or of another shape.
    """
    path = need_file(folder / "train.csv.zip", "the Home Depot pairs")
    table = _read(path)
    need_columns(table, _COLUMNS, path)
    relevance = pd.to_numeric(table["relevance"], errors="coerce")
    if not relevance.between(1, 3).all():
        raise DataError(
            f"{path}: relevance={table['relevance'][~relevance.between(1, 3)].iloc[0]}: "
            "expected a number from 1 to 3; fetch the file again"
        )
    pairs = pd.DataFrame(
        {
            "query": table["search_term"],
            "item_id": table["product_uid"].astype(str),
            "grade": np.digitize(relevance, _CUTS),
        }
    )
    products = table.drop_duplicates("product_uid")
    titles = products["product_title"].astype(str).str.strip()
    identifiers = products["product_uid"].astype(str)
    catalogue = pd.DataFrame(
        {
            "item_id": identifiers,
            "title": titles,
            "category": _categories(titles),
            "brand": titles.str.extract(_BRAND)[0],
            "price": [_price(identifier) for identifier in identifiers],
        }
    )
    return checked(pairs, catalogue, path)


def _read(path: Path) -> pd.DataFrame:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("train.csv") as member:
            return pd.read_csv(
                member, encoding="latin-1", dtype={"product_uid": str}, keep_default_na=False
            )
    except (zipfile.BadZipFile, KeyError, pd.errors.ParserError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): expected a zip of train.csv; fetch it again"
        ) from error


def _categories(titles: pd.Series) -> pd.Series:
    # "Delta Vero 1-Handle Shower Faucet Trim Kit in Chrome (Valve Not Included)"
    heads = titles.str.split(r"\s+(?:in|with|for|and|-)\s+|\s*\(|,", n=1, regex=True).str[0]
    nouns = heads.str.extract(r"([A-Za-z]{3,})\W*$")[0].str.lower().fillna("other")
    return nouns.where(nouns.map(nouns.value_counts()) >= _SMALLEST_CATEGORY, "other")


def _price(identifier: str) -> float:
    """A price in shop currency that depends on the product's id alone."""
    normal = np.random.default_rng(zlib.crc32(identifier.encode())).standard_normal()
    return round(_MEDIAN_PRICE * float(np.exp(_PRICE_SPREAD * normal)), 2)
