"""How likely it is that a label is right."""

from typing import Self

import numpy as np
from cleanlab.rank import get_label_quality_scores

from heft.importance.base import ImportanceData, check_fitted
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["LabelQuality"]


@register("label_quality")
class LabelQuality:
    """Out-of-fold confidence in the given label (confident learning).

    The score is cleanlab's normalised margin between the given label and the
    other one, on predictions corrected for the average confidence in each class
    (Northcutt, Jiang & Chuang 2021). A click is judged by attractiveness alone,
    since it proves that the item was examined; a missing click by examination
    times attractiveness.

    Args:
        proxy: shared out-of-fold model; its own if none is given.
        random_state: seed of the own proxy.
    """

    def __init__(self, proxy: OutOfFoldProxy | None = None, random_state: int = 0) -> None:
        self.proxy = proxy or OutOfFoldProxy(random_state=random_state)

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy on folds of `data`."""
        self.trace_ = self.proxy.trace(data)
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32 in [0, 1]; 1 where the label looks right. `data` as in `fit`."""
        check_fitted(self, "trace_")
        positive = self.trace_.final * np.where(data.label == 1, 1.0, data.observation())
        probabilities = np.stack([1 - positive, positive], axis=1)
        return get_label_quality_scores(
            data.label.astype(int),
            probabilities,
            method="normalized_margin",
            adjust_pred_probs=False,
        ).astype(np.float32)
