"""Exact values of few samples, to hold the fast estimators against.

Nothing here shares code with them: plain NumPy in double precision for the
nearest-neighbour utility, and enumeration of every subset for any classifier.
"""

from collections.abc import Callable
from math import comb
from typing import Any, Self

import numpy as np
from scipy.stats import binom
from sklearn.base import clone

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.knn_shapley import check_labels, check_reference
from heft.importance.registry import register

__all__ = [
    "ExactBanzhaf",
    "ExactShapley",
    "ExactValue",
    "classifier_utility",
    "enumerated_banzhaf",
    "enumerated_shapley",
]

Array = np.ndarray
Utility = Callable[[Array], float]

MOST_ROWS = 1_000
MOST_PLAYERS = 14


class ExactValue:
    """Values of at most 1,000 rows for a k-nearest-neighbour vote.

    With training rows ranked by distance to a reference row, m_j = 1 where the
    labels match and the weight A_j of rank j, a row is worth

        s_i = A_i m_i − Σ_{j>i} (A_{j−1} − A_j) m_j

    averaged over reference rows. Rows at one distance share the mean of their
    ranks' values over all orders.

    With no `reference`, every row is reference to the rows of other groups.

    With a `classifier`, the utility is the accuracy on the reference of that
    classifier trained on a subset, every subset of at most 14 rows in turn.

    Cost: time O(n · m · (d + log n)), memory O(n · d + n); with a classifier 2ⁿ fits.

    Args:
        k: neighbours that vote, at least 1.
        reference: rows whose labels are right; needed with a classifier.
        standardise: scale features by mean and deviation of the fitted sample.
        classifier: an unfitted one of scikit-learn, or None.
        random_state: for the registry's sake; nothing here is drawn.

    Raises:
        ConfigError: k < 1, or a classifier without a reference.
    """

    def __init__(
        self,
        k: int = 10,
        reference: ImportanceData | None = None,
        standardise: bool = True,
        classifier: Any = None,
        random_state: int = 0,
    ) -> None:
        if k < 1:
            raise ConfigError(f"k={k}: expected at least 1")
        if classifier is not None and reference is None:
            raise ConfigError(
                f"classifier={type(classifier).__name__}() needs reference rows to be scored on; "
                "pass reference, or leave the classifier out"
            )
        self.k = k
        self.reference = reference
        self.standardise = standardise
        self.classifier = classifier
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Keeps the sample; values are worked out by `score`.

        Raises:
            DataError: more than 1,000 rows (14 with a classifier), one label only, or
                a single group without a reference.
        """
        limit = MOST_ROWS if self.classifier is None else MOST_PLAYERS
        if len(data) > limit:
            raise DataError(
                f"rows={len(data)}: expected at most {limit} for exact values; fit on a sample, "
                "or use knn_shapley"
            )
        check_labels(data.label, "training")
        if self.reference is not None:
            check_reference(self.reference, data)
        elif len(np.unique(data.group)) < 2:
            raise DataError(
                f"all {len(data)} rows are of one group: expected at least 2 groups, or a reference"
            )
        deviation = data.features.astype(np.float64).std(axis=0)
        scaled = self.standardise and len(data) > 0
        self.scale_ = np.where(deviation > 1e-6, deviation, 1.0) if scaled else np.ones(1)
        self.data_ = data
        if self.classifier is not None and self.reference is not None:
            utility = classifier_utility(self.classifier, data, self.reference)
            self.enumerated_ = self._enumerate(utility, len(data))
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32; a row that is not of the fitted sample as if it alone had joined.

        Raises:
            DataError: rows other than those of `fit`, more than 1,000 of them, or any
                with a classifier.
        """
        return self.values(data).astype(np.float32)

    def values(self, data: ImportanceData) -> Array:
        """(n,) float64: the scores before they are rounded."""
        check_fitted(self, "data_")
        width, known = data.features.shape[1], self.data_.features.shape[1]
        if width != known:
            raise DataError(f"features={width}: expected {known}, as in fit")
        member = _member(data, self.data_)
        if self.classifier is not None:
            if (member < 0).any():
                raise DataError(
                    f"{int((member < 0).sum())} rows are not of the fitted sample: expected the "
                    "rows of fit, since a classifier values a whole sample at once"
                )
            return self.enumerated_[member]
        if (others := int((member < 0).sum())) > MOST_ROWS:
            raise DataError(
                f"{others} rows are not of the fitted sample: expected at most {MOST_ROWS}, since "
                "each is ranked anew; weigh a sample of the log, or use knn_shapley"
            )
        reference = self.data_ if self.reference is None else self.reference
        result, judged = np.zeros(len(data)), np.zeros(len(data))
        for r in range(len(reference)):
            theirs, mine = np.ones(len(self.data_), bool), np.ones(len(data), bool)
            if self.reference is None:
                theirs = self.data_.group != reference.group[r]
                mine = data.group != reference.group[r]
            result[mine] += self._by_one(reference, r, theirs, data, mine, member)
            judged += mine
        return result / np.maximum(judged, 1)

    def _by_one(
        self,
        reference: ImportanceData,
        r: int,
        theirs: Array,
        data: ImportanceData,
        mine: Array,
        member: Array,
    ) -> Array:
        """Values of `data`'s rows `mine` to one reference row, in a sample of the rows `theirs`."""
        at = reference.features[r].astype(np.float64)
        sample = np.flatnonzero(theirs)
        distance = self._distances(self.data_.features[sample], at)
        match = (self.data_.label[sample] == reference.label[r]).astype(np.float64)
        position = np.full(len(self.data_), -1)
        position[sample] = np.arange(len(sample))
        values = np.empty(int(mine.sum()))
        known = member[mine] >= 0
        values[known] = self._ranked(distance, match)[position[member[mine][known]]]
        for i in np.flatnonzero(~known):
            row = np.flatnonzero(mine)[i]
            own = self._distances(data.features[row : row + 1], at)
            same = float(data.label[row] == reference.label[r])
            values[i] = self._ranked(np.append(distance, own), np.append(match, same))[-1]
        return values

    def _distances(self, features: Array, at: Array) -> Array:
        return (((features.astype(np.float64) - at) / self.scale_) ** 2).sum(axis=1)

    def _ranked(self, distance: Array, match: Array) -> Array:
        """(n,) values to one reference row."""
        weight = self._weight(np.arange(1, len(distance) + 1))
        step = np.append(weight[:1], weight[:-1]) - weight
        _, tie, size = np.unique(distance, return_inverse=True, return_counts=True)
        by_rank = np.sort(tie)  # which tie each rank belongs to
        matches = np.bincount(tie, match)
        taken = np.cumsum(step)
        lost = np.cumsum(step * (matches / size)[by_rank])
        last = np.cumsum(size) - 1
        behind = taken[last] - np.bincount(by_rank, taken) / size
        after = lost[-1] - lost[last]
        mean = np.bincount(by_rank, weight) / size
        others = (matches[tie] - match) / np.maximum(size[tie] - 1, 1)
        return match * mean[tie] - others * behind[tie] - after[tie]

    def _weight(self, rank: Array) -> Array:
        raise NotImplementedError

    def _enumerate(self, utility: Utility, players: int) -> Array:
        raise NotImplementedError


@register("exact_shapley")
class ExactShapley(ExactValue):
    """Exact Shapley values; A_j = 1 / max(k, j) (Jia et al. 2019).

    *Efficient Task-Specific Data Valuation for Nearest Neighbor Algorithms.* In
    [−1/k, 1/k]; they sum to the utility of all rows. Arguments, limits and cost
    as in `ExactValue`.
    """

    def _weight(self, rank: Array) -> Array:
        return 1.0 / np.maximum(self.k, rank)

    def _enumerate(self, utility: Utility, players: int) -> Array:
        return enumerated_shapley(utility, players)


@register("exact_banzhaf")
class ExactBanzhaf(ExactValue):
    """Exact Banzhaf values; A_j = P(Bin(j − 1, ½) ≤ k − 1) / k.

    Every subset of the others counts alike, which makes ranks of values the
    steadiest against a noisy utility (Wang & Jia 2023, *Data Banzhaf*). Among
    the j − 1 nearer rows each is in with probability ½, and fewer than k must be
    for row j to vote. In [−1/k, 1/k]. Arguments, limits and cost as in
    `ExactValue`.
    """

    def _weight(self, rank: Array) -> Array:
        return binom.cdf(self.k - 1, rank - 1, 0.5) / self.k

    def _enumerate(self, utility: Utility, players: int) -> Array:
        return enumerated_banzhaf(utility, players)


def classifier_utility(classifier: Any, data: ImportanceData, reference: ImportanceData) -> Utility:
    """Accuracy on `reference` of `classifier` trained on the rows of `data` it is given.

    A subset with one label predicts that label; the empty one is right half the time.

    Args:
        classifier: an unfitted one of scikit-learn; give it a random_state.
    """

    def utility(rows: Array) -> float:
        label = data.label[rows]
        if not len(rows):
            return 0.5
        if label.min() == label.max():
            return float((reference.label == label[0]).mean())
        fitted = clone(classifier).fit(data.features[rows], label)
        return float((fitted.predict(reference.features) == reference.label).mean())

    return utility


def enumerated_shapley(utility: Utility, players: int) -> Array:
    """(n,) Σ over S without i of |S|! (n − |S| − 1)! / n! · (v(S ∪ i) − v(S)).

    Args:
        utility: of an array of players, ascending; called once per subset.
        players: at most 14, since there are 2ⁿ subsets.

    Raises:
        ConfigError: too many players.
    """
    return _enumerated(utility, players, lambda size: 1 / (players * comb(players - 1, size)))


def enumerated_banzhaf(utility: Utility, players: int) -> Array:
    """(n,) 2^(1 − n) Σ over S without i of v(S ∪ i) − v(S); otherwise as Shapley."""
    return _enumerated(utility, players, lambda size: 0.5 ** (players - 1))


def _enumerated(utility: Utility, players: int, weight: Callable[[int], float]) -> Array:
    if players > MOST_PLAYERS:
        raise ConfigError(f"players={players}: expected at most {MOST_PLAYERS}, as 2ⁿ subsets are")
    everyone = np.arange(players)
    worth = [utility(everyone[(s >> everyone) & 1 == 1]) for s in range(2**players)]
    values = np.zeros(players)
    for i in range(players):
        for s in range(2**players):
            if not (s >> i) & 1:
                values[i] += weight(s.bit_count()) * (worth[s | 1 << i] - worth[s])
    return values


def _member(data: ImportanceData, fitted: ImportanceData) -> Array:
    """(n,) which row of `fitted` a row is (features, label and group alike), or −1."""
    index = {_identity(fitted, row): row for row in reversed(range(len(fitted)))}
    return np.array([index.get(_identity(data, row), -1) for row in range(len(data))], np.int64)


def _identity(data: ImportanceData, row: int) -> tuple[bytes, int, int]:
    features = data.features[row].astype(np.float32) + np.float32(0)  # −0 equals 0
    return features.tobytes(), int(data.label[row]), int(data.group[row])
