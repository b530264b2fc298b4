"""How much more common a sample is in the domain a model is meant for."""

from dataclasses import replace
from typing import Self

import numpy as np
from sklearn.linear_model import LogisticRegression

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import register

__all__ = ["DomainRatio"]

Array = np.ndarray

# The mean of the ratio over source rows is 1 if the classifier is right and the
# domains overlap.
_LEAST_MEAN = 0.1


@register("domain_ratio")
class DomainRatio:
    """Density ratio p(x | target) / p(x | source) from a classifier of the domain.

    With P(target | x) of the classifier and n_s, n_t rows,

        ratio = P(target | x) / P(source | x) · n_s / n_t

    (Bickel, Brückner & Scheffer 2009, Discriminative Learning Under Covariate
    Shift): a mean over source rows under these weights is one over the target,
    as long as the label depends on x alike in both. The classifier is an
    `OutOfFoldProxy` of the domain, so that it has not seen the group it judges;
    its logits are calibrated (Platt 1999), ratios clipped, and those of source
    rows divided by their mean. Rows of the target have weight 1.

    Other rows than those of `fit` are judged by the same networks, each group by
    the one without its fold. Cost: that of the proxy, linear in rows and features.

    Args:
        folds: at least 2.
        hidden: width of the hidden layer; 0 is logistic regression: exact for
            Gaussians of one covariance, blind to domains that differ in spread.
        epochs: at least 1.
        clip: ratios above are lowered to it; above 1. Bias for variance: a few
            source rows must not stand for the whole target.
        random_state: of the networks and their folds.

    Raises:
        ConfigError: a setting out of its range.
    """

    def __init__(
        self,
        folds: int = 4,
        hidden: int = 32,
        epochs: int = 6,
        clip: float = 20.0,
        random_state: int = 0,
    ) -> None:
        if not clip > 1:
            raise ConfigError(f"clip={clip} must be above 1, the mean of a density ratio")
        OutOfFoldProxy(folds, epochs, hidden)  # refuses what it cannot do
        self.folds = folds
        self.hidden = hidden
        self.epochs = epochs
        self.clip = clip
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns to tell the domains apart.

        Raises:
            DataError: no column `domain` or one with other values than 0 and 1; too
                few rows of a domain; domains that do not overlap.
        """
        domain = _domain(data)
        if not data.features.shape[1]:
            raise DataError("domain_ratio got 0 features: expected at least 1 to compare by")
        target = int(domain.sum())
        if target in (0, len(domain)):
            _refuse(target, len(domain))
        proxy = OutOfFoldProxy(self.folds, self.epochs, self.hidden, random_state=self.random_state)
        # The likelihood is that of the domain: examination has no part in it.
        self.proxy_ = proxy.fit(replace(data, label=domain, observed=None))
        if self.proxy_.constant_.any():
            _refuse(target, len(domain))
        prior = float(np.log(target / (len(domain) - target)))
        logit = self._logit(data)
        platt = LogisticRegression(C=1e6).fit(logit[:, None], domain)
        self.slope_, self.intercept_ = float(platt.coef_[0, 0]), float(platt.intercept_[0]) - prior
        if self.slope_ <= 0:  # chance: no difference that carries over to unseen groups
            self.slope_, self.intercept_ = 0.0, 0.0
        self.mean_ = 1.0
        self.mean_ = float(self.ratio(data)[domain == 0].mean())
        if self.mean_ < _LEAST_MEAN:
            raise DataError(
                f"mean density ratio over source rows = {self.mean_:.2g}, expected about 1: source "
                "and target barely overlap; leave out features that tell them apart by "
                "themselves (dates, identifiers), or train on the target alone"
            )
        return self

    def ratio(self, data: ImportanceData) -> Array:
        """(n,) float64 in [0, clip / mean]: the density ratio of every row, either domain."""
        check_fitted(self, "mean_")
        logit = self.slope_ * self._logit(data) + self.intercept_
        return np.exp(np.minimum(logit, np.log(self.clip))) / self.mean_

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0: the ratio for source rows, of mean 1 in `fit`; else 1."""
        ratio = self.ratio(data)
        return np.where(_domain(data) == 1, 1.0, ratio).astype(np.float32)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32: the density ratio, of target rows too; needs no `domain`."""
        return self.ratio(data).astype(np.float32)

    def _logit(self, data: ImportanceData) -> Array:
        """(n,) log odds of the target, from the network that has not seen the group."""
        return self.proxy_.trace(data).logits[:, -1].astype(np.float64)


def _domain(data: ImportanceData) -> Array:
    domain = np.asarray(need_column(data, "domain", "domain_ratio"))
    odd = ~np.isin(domain, (0, 1))
    if odd.any():
        raise DataError(
            f"domain={domain[odd][0]} in {int(odd.sum())} rows: expected 1 for the target, 0 else"
        )
    return domain.astype(np.int64)


def _refuse(target: int, rows: int) -> None:
    raise DataError(
        f"{target} of {rows} rows are of the target domain: expected at least 5 of either domain "
        "outside every fold; check the column domain, or use more data"
    )
