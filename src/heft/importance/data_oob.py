"""What models that have not seen a row say of its label."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Self, get_args

import numba
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from heft.errors import ConfigError, DataError
from heft.importance.bags import Bags, add_out_of_bag, bag
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.knn_shapley import check_labels
from heft.importance.nearest import row_keys
from heft.importance.registry import register

__all__ = ["DataOob"]

Array = np.ndarray
Base = Literal["tree", "logistic"]

_BLOCK = 16_384
_TRIES = 20


@register("data_oob")
class DataOob:
    """Data-OOB: how far models that were trained without a row agree with its label.

    Of T models, each trained on a bootstrap of the rows, those count that have
    none of the row's group in their bag (Kwon & Zou 2023, *Data-OOB: Out-of-bag
    Estimate as a Simple and Efficient Data Value*):

        s_i = Σ_t [i not in bag t] · a_t(i) / Σ_t [i not in bag t]

    a_t(i) is the probability that model t gives to the label of row i, or with
    `agreement="vote"` 1 where it is above ½ and 0 elsewhere, as in the paper. In
    [0, 1]; low where the label looks wrong. The label is judged as logged:
    examination is not taken into account.

    Whether a group is in bag t, and how often, is drawn by a hash of its key:
    Poisson(min(1, max_samples / n)) times. So any row, of whichever shard, has its
    models, and neither fit nor score keeps a table of bags. A bag with one label
    only is drawn again. A row that is in every bag, as happens with few models,
    gets the share of its label among the fitted rows.

    Cost: T models of about `max_samples` rows, whatever n is; scoring is O(n · T)
    tree walks, or n · T · d multiplications. Memory: the models and a block of rows.

    Args:
        base: "tree", a random-forest tree (√d features a split, at least
            `min_leaf` rows a leaf), or "logistic", on standardised features.
        models: T, at least 1.
        max_samples: expected rows of a bag at most, at least 2.
        agreement: "probability" or "vote".
        min_leaf: of trees, at least 1.
        random_state: seed of bags and trees.

    Raises:
        ConfigError: a setting out of its range.
    """

    def __init__(
        self,
        base: Base = "tree",
        models: int = 100,
        max_samples: int = 8192,
        agreement: Literal["probability", "vote"] = "probability",
        min_leaf: int = 8,
        random_state: int = 0,
    ) -> None:
        if base not in get_args(Base):
            raise ConfigError(f"Expected one of {list(get_args(Base))}, received: base={base!r}")
        if agreement not in ("probability", "vote"):
            raise ConfigError(
                f"Expected one of ['probability', 'vote'], received: agreement={agreement!r}"
            )
        for name, value, least in (
            ("models", models, 1),
            ("max_samples", max_samples, 2),
            ("min_leaf", min_leaf, 1),
        ):
            if value < least:
                raise ConfigError(f"{name}={value}: expected at least {least}")
        self.base = base
        self.models = models
        self.max_samples = max_samples
        self.agreement = agreement
        self.min_leaf = min_leaf
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Trains the models.

        Raises:
            DataError: no features, one label or one group only, or no bag with both could be drawn.
        """
        check_labels(data.label, "training")
        if not data.features.shape[1]:
            raise DataError("data_oob got 0 features: expected at least 1 to learn from")
        if (data.group == data.group[0]).all():
            raise DataError(
                f"all {len(data)} rows are of one group: expected at least 2, since a row is "
                "judged by models without its group"
            )
        self.prior_ = np.array([1 - data.label.mean(), data.label.mean()])
        self.width_ = data.features.shape[1]
        self.bags_, rows, counts = self._draw(data)
        self.shift_, self.scale_ = _scaling(data.features, np.unique(np.concatenate(rows)))

        def train(t: int) -> tuple[Array, ...]:
            chosen, weight = rows[t], counts[t].astype(np.float64)
            return self._train(data.features[chosen], data.label[chosen], weight, t)

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            models = list(pool.map(train, range(self.models)))
        starts = np.cumsum([0, *(len(m[0]) for m in models)])[:-1]
        self.model_ = (starts, *(np.concatenate(x) for x in zip(*models, strict=True)))
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in [0, 1]; 1 where the label looks right."""
        check_fitted(self, "model_")
        if data.features.shape[1] != self.width_:
            raise DataError(f"features={data.features.shape[1]}: expected {self.width_}, as in fit")
        result = np.empty(len(data), np.float32)
        for start in range(0, len(data), _BLOCK):
            part = slice(start, start + _BLOCK)
            result[part] = self._score(
                data.features[part].astype(np.float32, copy=False),
                data.label[part].astype(np.int64, copy=False),
                np.asarray(data.group[part]).astype(np.int64, copy=False),
            )
        return result

    def _draw(self, data: ImportanceData) -> tuple[Bags, list[Array], list[Array]]:
        """Bags with both labels, their rows, and how often each row is in."""
        rate = min(1.0, self.max_samples / len(data))
        group = np.asarray(data.group).astype(np.int64, copy=False)
        # Sums over rows must not depend on their order.
        order = np.lexsort((data.label, row_keys(data.features), group))
        group, label = group[order], data.label[order]
        salts, rows, counts = np.zeros(self.models, np.int64), [], []
        for t in range(self.models):
            for attempt in range(_TRIES):
                salts[t] = self.models * attempt + t
                chosen, count = bag(group, self.random_state, salts[t], rate)
                if 0 < label[chosen].sum() < len(chosen):
                    break
            else:
                raise DataError(
                    f"{_TRIES} bags of about {rate * len(data):.0f} rows had one label only, of "
                    f"{int(label.sum())} positives among {len(label)} rows in "
                    f"{len(np.unique(group))} groups: raise max_samples={self.max_samples} or use "
                    "more data"
                )
            rows.append(order[chosen])
            counts.append(count)
        return Bags(self.random_state, salts, rate), rows, counts

    def _train(self, features: Array, label: Array, weight: Array, t: int) -> tuple[Array, ...]:
        """The arrays of one model, those of all models to be put end to end."""
        if self.base == "logistic":
            scaled = (features - self.shift_) / self.scale_
            solver = LogisticRegression(solver="newton-cholesky")
            solver.fit(scaled, label, sample_weight=weight)
            return (np.append(solver.coef_[0], solver.intercept_)[None],)
        tree = DecisionTreeClassifier(
            max_features="sqrt",
            min_samples_leaf=self.min_leaf,
            random_state=(self.random_state * 1_000_003 + t) % 2**32,
        )
        grown = tree.fit(features, label, sample_weight=weight).tree_
        share = grown.value[:, 0, :]
        return (
            grown.feature.astype(np.int32),
            grown.threshold,
            grown.children_left.astype(np.int32),
            grown.children_right.astype(np.int32),
            (share[:, 1] / share.sum(axis=1)).astype(np.float32),
        )

    def _score(self, features: Array, label: Array, group: Array) -> Array:
        if self.base == "logistic":
            scaled = (features - self.shift_) / self.scale_
            logit = scaled @ self.model_[1][:, :-1].T + self.model_[1][:, -1]
            positive = (1 / (1 + np.exp(-logit))).astype(np.float32)
        else:
            positive = np.empty((len(label), self.models), np.float32)
            _walk(features, *self.model_, positive)
        agreed, judged = np.zeros(len(label)), np.zeros(len(label), np.int64)
        vote = self.agreement == "vote"
        add_out_of_bag(positive, label, group, *self.bags_, vote, agreed, judged)
        return np.where(judged > 0, agreed / np.maximum(judged, 1), self.prior_[label])


def _scaling(features: Array, rows: Array) -> tuple[Array, Array]:
    used = features[rows].astype(np.float64)
    scale = used.std(axis=0)
    shift = used.mean(axis=0).astype(np.float32)
    return shift, np.where(scale > 1e-6, scale, 1.0).astype(np.float32)


@numba.njit(cache=True, parallel=True)
def _walk(
    features: Array,
    starts: Array,
    feature: Array,
    threshold: Array,
    left: Array,
    right: Array,
    share: Array,
    positive: Array,
) -> None:
    """(n, T) probabilities of trees that lie end to end; one tree at a time stays in cache."""
    chunk = 512
    for c in numba.prange((len(features) + chunk - 1) // chunk):
        for t in range(len(starts)):
            start = starts[t]
            for i in range(c * chunk, min((c + 1) * chunk, len(features))):
                node = start
                while left[node] >= 0:
                    below = features[i, feature[node]] <= threshold[node]
                    node = start + (left[node] if below else right[node])
                positive[i, t] = share[node]
