"""How likely it is that a label is right."""

from typing import Self

import numpy as np
from cleanlab.count import get_confident_thresholds

from heft.importance.base import ImportanceData
from heft.importance.dynamics import TraceEstimator
from heft.importance.proxy_trace import ProxyTrace
from heft.importance.registry import register
from heft.importance.targets import check_labels, targets_of

__all__ = ["LabelQuality"]


@register("label_quality")
class LabelQuality(TraceEstimator):
    """Out-of-fold confidence in the given label (confident learning).

    The score is cleanlab's normalised margin between the given label and the
    other one, on predictions corrected for the average confidence in each class
    (Northcutt, Jiang & Chuang 2021): with t₀ and t₁ the mean confidence in a
    given 0 and 1, t the larger of the two and p that in the row's own label y,

        (p − t_y + t) / (1 − t₀ − t₁ + 2t)

    A click is judged by attractiveness alone, since it proves that the item was
    examined; a missing click by examination times attractiveness.

    Cost beyond the shared trace: O(n).

    Attributes:
        thresholds_: (t₀, t₁), of the data of `fit`.
    """

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy, unless a shared one is trained, and finds the thresholds.

        Raises:
            DataError: no rows, or all labels the same.
        """
        super().fit(data)
        check_labels(targets_of(data))
        confidence = _confidence(self.proxy_.trace(data), data)
        positive = np.where(data.label == 1, confidence, 1 - confidence)
        probabilities = np.stack([1 - positive, positive], axis=1)
        self.thresholds_ = get_confident_thresholds(data.label.astype(int), probabilities)
        return self

    def of(self, trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
        """(n,) in [0, 1]; 1 where the label looks right."""
        top = self.thresholds_.max()
        corrected = _confidence(trace, data) - self.thresholds_[data.label.astype(int)] + top
        return corrected / (1 - self.thresholds_.sum() + 2 * top)


def _confidence(trace: ProxyTrace, data: ImportanceData) -> np.ndarray:
    """(n,) probability of the given label."""
    attractive = trace.final.astype(np.float64)
    return np.where(data.label == 1, attractive, 1 - attractive * data.observation())
