"""Reader of a folder with `pairs.csv`: anybody's judgements."""

from pathlib import Path

import pandas as pd

from heft.errors import DataError
from heft.simulate.judgements import Judgements, checked, need_columns, need_file

__all__ = ["read_pairs"]

_TEXT = dict.fromkeys(("query", "title", "item_id", "category", "brand"), str)


def read_pairs(folder: Path) -> Judgements:
    """Judgements of `folder/pairs.csv`.

    Columns: query, title, grade (0 to 3); optionally item_id (else each
    distinct title is an item), category, brand, price.

    Raises:
        DataError: the file is missing, empty or of another shape.
    """
    path = need_file(folder / "pairs.csv", "a table with the columns query, title, grade")
    try:
        # "null" and "NA" are words like any other: only an empty number is unknown.
        table = pd.read_csv(
            path, dtype=_TEXT, keep_default_na=False, na_values={"grade": "", "price": ""}
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): expected comma-separated values in UTF-8 with a "
            "header; write it again"
        ) from error
    need_columns(table, ["query", "title", "grade"], path)
    if "item_id" not in table:
        numbers, _ = pd.factorize(table["title"].str.strip(), sort=True)
        table["item_id"] = [f"item-{number:06d}" for number in numbers]
    for name in ("category", "brand"):
        if name not in table:
            table[name] = ""
    if "price" not in table:
        table["price"] = float("nan")
    return checked(table, table, path)
