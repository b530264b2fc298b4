"""Whether a click agrees with what the texts say."""

from typing import Self

import numpy as np
from sklearn.isotonic import IsotonicRegression

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.keys import fold_of
from heft.importance.registry import register
from heft.importance.targets import check_labels, targets_of

__all__ = ["RelevanceAgreement"]


@register("relevance_agreement")
class RelevanceAgreement:
    """Confidence in a label given nothing but the agreement of query and title as texts.

    A monotone map from `relevance` (the encoder's cosine, say) to the click if
    examined is fitted by isotonic regression, a(relevance) = P(1 | examined), of
    y/θ with weights θ = `observed`, on the rows outside the fold of a row's group
    (the pool-adjacent-violators algorithm; Zadrozny & Elkan 2002 for
    probabilities). The score is the probability of the given label: a for a
    click, 1 − θ·a without. In [0, 1], high where the label looks right. It needs
    no clean set and no model; it knows no more than the texts.

    Cost: O(n log n) time per fold, O(n) memory in `fit`; O(n log n) in `score`.

    Args:
        folds: at least 2; groups are dealt to folds by hash.
        random_state: seed of the folds.

    Attributes:
        maps_: a fitted map for each fold.
    """

    def __init__(self, folds: int = 4, random_state: int = 0) -> None:
        if folds < 2:
            raise ConfigError(f"folds={folds}: expected at least 2 to score out of fold")
        self.folds = folds
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Fits a map on the rows outside each fold.

        Raises:
            DataError: no relevance, one that is not finite, no rows, or all labels the same.
        """
        relevance = _relevance(data)
        check_labels(targets_of(data))
        fold = fold_of(data.group, self.folds, self.random_state)
        theta = data.observation().astype(np.float64)
        self.maps_ = []
        for k in range(self.folds):
            # All rows where one fold holds everything: better than no map at all.
            rows = np.flatnonzero(fold != k) if (fold != k).any() else np.arange(len(data))
            margin = 1 / (len(rows) + 2)  # no certainty from a finite number of rows
            curve = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
            share = data.label[rows] / theta[rows]
            self.maps_.append(curve.fit(relevance[rows], share, sample_weight=theta[rows]))
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32 in [0, 1]; any rows.

        Raises:
            DataError: no relevance, or one that is not finite.
        """
        check_fitted(self, "maps_")
        relevance = _relevance(data)
        fold = fold_of(data.group, self.folds, self.random_state)
        attractive = np.empty(len(data))
        for k, curve in enumerate(self.maps_):
            rows = np.flatnonzero(fold == k)
            if len(rows):
                attractive[rows] = curve.predict(relevance[rows])
        confidence = np.where(data.label == 1, attractive, 1 - attractive * data.observation())
        return confidence.astype(np.float32)


def _relevance(data: ImportanceData) -> np.ndarray:
    relevance = need_column(data, "relevance", "relevance_agreement").astype(np.float64)
    odd = ~np.isfinite(relevance)
    if odd.any():
        raise DataError(
            f"relevance={relevance[odd][0]} in row {int(np.flatnonzero(odd)[0])}: expected a "
            "finite cosine; give texts without a vector the relevance 0"
        )
    return relevance
