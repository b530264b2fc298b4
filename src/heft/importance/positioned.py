"""What a log needs before examination can be told from the features of its rows."""

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData

__all__ = ["DEEPEST", "human_mass", "positioned"]

Array = np.ndarray

# Positions below are pooled with it.
DEEPEST = 500


def human_mass(data: ImportanceData) -> Array:
    """(n,) float64 in [0, 1], how much of each row is a person's; ones where unknown."""
    return np.ones(len(data)) if data.human is None else data.human.astype(np.float64)


def positioned(data: ImportanceData, minimum_clicks: int) -> ImportanceData:
    """The rows whose position is known and that may be a person's.

    Raises:
        DataError: no such rows, fewer clicks on them than `minimum_clicks`, nothing
            but clicks, one position only, no features.
    """
    known = (data.position > 0) & (human_mass(data) > 0)
    rows = data if known.all() else data.take(known)
    if not len(rows):
        raise DataError(
            f"0 of {len(data)} rows have a position from 1 and human above 0: examination needs "
            "both; map the position column"
        )
    clicks = round(float((rows.label * human_mass(rows)).sum()))
    if clicks < minimum_clicks:
        raise DataError(
            f"{clicks} clicks at known positions: expected at least {minimum_clicks} to estimate "
            "examination; log more, or log propensities"
        )
    if rows.label.all():
        raise DataError(
            f"all {len(rows)} rows are clicked: expected what was shown and not clicked too; log "
            "impressions"
        )
    if (rows.position == rows.position[0]).all():
        raise DataError(
            f"position={rows.position[0]} in all {len(rows)} rows: expected two positions or more "
            "to compare"
        )
    if not rows.features.shape[1]:
        raise DataError(
            "features has 0 columns: attractiveness is told from position by them; expected one "
            "or more, or use examination: pairs"
        )
    return rows
