"""How much more common a sample is in the domain a model is meant for."""

from typing import Literal, Self, get_args

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.proxy import fold_of
from heft.importance.registry import register

__all__ = ["Classifier", "DomainRatio"]

Array = np.ndarray
Classifier = Literal["logistic", "boosting"]

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
    as long as the label depends on x alike in both. The classifier is fitted on
    folds of groups and judges a group it has not seen; its logits are then
    calibrated (Platt 1999), clipped, and the weights of source rows divided by
    their mean. Rows of the target have weight 1.

    Other rows than those of `fit` are judged by the same classifiers, each group
    by the one without its fold. Time: `folds` fits of the classifier, O(n·d) a
    step; memory O(n·d).

    Args:
        classifier: `logistic` is linear in the features: exact for Gaussians of
            one covariance, hard to overfit. `boosting` (trees) follows any shape.
        folds: at least 2.
        clip: ratios above are lowered to it; above 1. Bias for variance: a few
            source rows must not stand for the whole target.
        random_state: of the folds and the trees.

    Raises:
        ConfigError: a setting out of its range.
    """

    def __init__(
        self,
        classifier: Classifier = "logistic",
        folds: int = 4,
        clip: float = 20.0,
        random_state: int = 0,
    ) -> None:
        if classifier not in get_args(Classifier):
            expected = list(get_args(Classifier))
            raise ConfigError(f"Expected one of {expected}, received: classifier={classifier!r}")
        if folds < 2:
            raise ConfigError(f"folds={folds}: expected at least 2 to judge out of fold")
        if not clip > 1:
            raise ConfigError(f"clip={clip} must be above 1, the mean of a density ratio")
        self.classifier = classifier
        self.folds = folds
        self.clip = clip
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Learns to tell the domains apart.

        Raises:
            DataError: no column `domain` or one with other values than 0 and 1; a
                domain without rows outside some fold; domains that do not overlap.
        """
        domain = _domain(data)
        if not data.features.shape[1]:
            raise DataError(
                "domain_ratio got 0 features: expected at least 1 to compare domains by"
            )
        fold = self._fold(data)
        self.models_ = []
        for k in range(self.folds):
            used = fold != k
            _check_domains(domain[used], k)
            self.models_.append(self._classifier().fit(data.features[used], domain[used]))
        logit = self._logit(data)
        platt = LogisticRegression(C=1e6).fit(logit[:, None], domain)
        self.slope_ = max(float(platt.coef_[0, 0]), 0.0)
        # A slope below 0 is chance: no difference that carries over to unseen groups.
        odds = domain.mean() / (1 - domain.mean())
        self.intercept_ = float(platt.intercept_[0]) if self.slope_ > 0 else float(np.log(odds))
        self.log_prior_ = float(np.log(odds))
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
        logit = self.slope_ * self._logit(data) + self.intercept_ - self.log_prior_
        return np.exp(np.minimum(logit, np.log(self.clip))) / self.mean_

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0: the ratio for source rows, of mean 1 in `fit`; else 1."""
        ratio = self.ratio(data)
        return np.where(_domain(data) == 1, 1.0, ratio).astype(np.float32)

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32: the density ratio, of target rows too; needs no `domain`."""
        return self.ratio(data).astype(np.float32)

    def _fold(self, data: ImportanceData) -> Array:
        return fold_of(data.group, self.folds, self.random_state)

    def _classifier(self) -> LogisticRegression | HistGradientBoostingClassifier:
        if self.classifier == "logistic":
            return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        return HistGradientBoostingClassifier(max_iter=60, random_state=self.random_state)

    def _logit(self, data: ImportanceData) -> Array:
        """(n,) log odds of the target, from the classifier that has not seen the group."""
        logit = np.zeros(len(data))
        fold = self._fold(data)
        for k, model in enumerate(self.models_):
            held = fold == k
            if held.any():
                logit[held] = model.decision_function(data.features[held])
        return logit


def _domain(data: ImportanceData) -> Array:
    domain = np.asarray(need_column(data, "domain", "domain_ratio"))
    odd = ~np.isin(domain, (0, 1))
    if odd.any():
        raise DataError(
            f"domain={domain[odd][0]} in {int(odd.sum())} rows: expected 1 for the target, 0 else"
        )
    return domain.astype(np.int64)


def _check_domains(domain: Array, fold: int) -> None:
    target = int(domain.sum())
    if target in (0, len(domain)):
        raise DataError(
            f"{target} of {len(domain)} rows outside fold {fold} are of the target domain: "
            "expected rows of both; check the column domain, or use more data"
        )
