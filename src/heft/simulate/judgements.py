"""Relevance judgements and the catalogue they speak of: what every source yields."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from heft.errors import DataError

__all__ = ["MAX_GRADE", "Judgements", "checked", "need_columns", "need_file"]

MAX_GRADE = 3
_CATALOGUE = ["item_id", "title", "category", "brand", "price"]


@dataclass(frozen=True)
class Judgements:
    """Graded query-item pairs and the items' catalogue.

    `pairs` has query (str), item_id (str), grade (int64, 0..3), one row for
    each pair, sorted by query and item. `catalogue` has item_id, title,
    category, brand (str) and price (float64, shop currency, NaN if unknown),
    one row for each item, sorted by item; it holds every item of `pairs`.
    """

    pairs: pd.DataFrame
    catalogue: pd.DataFrame


def need_file(path: Path, what: str) -> Path:
    """`path`, if it is a file.

    Raises:
        DataError: it is not there.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: expected {what}; name the folder that holds it")
    return path


def need_columns(table: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Raises DataError if `table`, read from `path`, lacks one of the columns."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{path} lacks the column {missing[0]!r}: expected {', '.join(names)}, "
            f"found {', '.join(map(str, table.columns))}; rename or add it"
        )


def checked(pairs: pd.DataFrame, catalogue: pd.DataFrame, path: Path | str) -> Judgements:
    """The judgements read from `path`, cleaned and in canonical order.

    Texts are stripped and pairs without a query or a title are dropped; of a
    pair that was judged twice the first judgement counts.

    Raises:
        DataError: a grade is not an integer in 0..3, or a price is negative or
            not a number.
    """
    pairs = pairs[["query", "item_id"]].assign(grade=_grades(pairs["grade"], path))
    catalogue = catalogue[_CATALOGUE].assign(price=_prices(catalogue["price"], path))
    for table, names in ((pairs, _TEXTS[:2]), (catalogue, _TEXTS[1:])):
        for name in names:
            table[name] = table[name].fillna("").astype(str).str.strip()
    catalogue = catalogue[(catalogue["title"] != "") & (catalogue["item_id"] != "")]
    catalogue = catalogue.drop_duplicates("item_id").sort_values("item_id", ignore_index=True)
    known = pairs["item_id"].isin(catalogue["item_id"]) & (pairs["query"] != "")
    pairs = pairs[known].drop_duplicates(["query", "item_id"])
    pairs = pairs.sort_values(["query", "item_id"], ignore_index=True)
    return Judgements(pairs, catalogue)


_TEXTS = ["query", "item_id", "title", "category", "brand"]


def _grades(column: pd.Series, path: Path | str) -> pd.Series:
    grades = pd.to_numeric(column, errors="coerce")
    wrong = ~grades.isin(range(MAX_GRADE + 1))
    if wrong.any():
        raise DataError(
            f"{path}: grade={column[wrong].iloc[0]} in data row {int(wrong.argmax()) + 1}: "
            f"expected a whole number from 0 to {MAX_GRADE}; map your scale to it"
        )
    return grades.astype("int64")


def _prices(column: pd.Series, path: Path | str) -> pd.Series:
    prices = pd.to_numeric(column, errors="coerce").astype("float64")
    wrong = (prices.isna() & column.notna()) | (prices < 0)
    if wrong.any():
        raise DataError(
            f"{path}: price={column[wrong].iloc[0]} in data row {int(wrong.argmax()) + 1}: "
            "expected a number of at least 0; leave it empty where it is unknown"
        )
    return prices
