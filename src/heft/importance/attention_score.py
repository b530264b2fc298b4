"""How firmly the text encoder's attention ties a query to a title."""

from typing import Self

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.registry import register

__all__ = ["AttentionScore"]


@register("attention")
class AttentionScore:
    """The column `spoken`: `heft.text.attention.Attended.link` of the row's pair, in [0, 1].

    High where each word piece of the query has a counterpart in the title that
    BERT's heads attend to, reading both together. It looks at neither label nor
    clicks and needs no model of them: high for a click that is about the text,
    and high for a miss on a matching title all the same.

    Cost: O(n) here; one pass of BERT for each distinct pair where the column is
    filled.
    """

    def fit(self, data: ImportanceData) -> Self:
        """Checks that the column is there; there is nothing to learn.

        Raises:
            DataError: no column `spoken`, or a value in it that is not finite.
        """
        _spoken(data)
        self.fitted_ = True
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32.

        Raises:
            DataError: as `fit`.
        """
        check_fitted(self, "fitted_")
        return _spoken(data)


def _spoken(data: ImportanceData) -> np.ndarray:
    spoken = need_column(data, "spoken", "attention").astype(np.float32)
    odd = ~np.isfinite(spoken)
    if odd.any():
        raise DataError(
            f"spoken={spoken[odd][0]} in row {int(np.flatnonzero(odd)[0])}: expected a finite "
            "number; fill the column from heft.text.attention.PairAttention"
        )
    return spoken
