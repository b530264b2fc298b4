"""What every estimator takes and gives."""

from dataclasses import dataclass, replace
from typing import Protocol, Self, runtime_checkable

import numpy as np

from heft.errors import DataError, NotFittedError

__all__ = ["Debiaser", "Estimator", "ImportanceData", "check_fitted"]

Array = np.ndarray


@dataclass(frozen=True)
class ImportanceData:
    """The samples of one task, as columns of n rows.

    Attributes:
        features: (n, d) float32, what a proxy model may see of a sample.
        label: (n,) {0, 1}.
        group: (n,) int64; rows of one group (a request) share a fold.
        position: (n,) int64 from 1; 0 where unknown.
        propensity: (n,) float32 in (0, 1]; NaN where not logged.
        pair: (n,) int64, the same number for the same query and item.
        examined: (n,) bool, rows known to have been examined whatever came of
            it, from viewport tracking, say; none where left out. That a row was
            clicked does not count: it is known of clicked rows alone.
        observed: (n,) in (0, 1], the probability that a positive could be seen
            (examination, say). `with_observed` sets it; ones where nothing is known.
    """

    features: Array
    label: Array
    group: Array
    position: Array
    propensity: Array
    pair: Array
    examined: Array | None = None
    observed: Array | None = None

    def __post_init__(self) -> None:
        rows = len(self.label)
        for name in ("features", "group", "position", "propensity", "pair"):
            if len(getattr(self, name)) != rows:
                raise DataError(
                    f"{name} has {len(getattr(self, name))} rows and label {rows}: "
                    "every column needs one row per sample"
                )
        if rows and not np.isin(self.label, (0, 1)).all():
            odd = self.label[~np.isin(self.label, (0, 1))][0]
            raise DataError(f"label={odd}: expected 0 or 1")
        if not np.isfinite(self.features).all():
            column = int(np.argwhere(~np.isfinite(self.features))[0][1])
            raise DataError(
                f"feature column {column} holds NaN or infinity: fill missing values first"
            )

    def __len__(self) -> int:
        return len(self.label)

    def with_observed(self, observed: Array) -> "ImportanceData":
        """The same samples, with the probability that a positive could be seen."""
        return replace(self, observed=observed)

    def observation(self) -> Array:
        """(n,) float32; ones where `observed` is not known."""
        if self.observed is None:
            return np.ones(len(self), np.float32)
        return self.observed.astype(np.float32)

    def known_examined(self) -> Array:
        """(n,) bool."""
        return np.zeros(len(self), bool) if self.examined is None else self.examined

    def take(self, rows: Array) -> "ImportanceData":
        """The samples at `rows` (indices or a mask)."""
        columns = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return replace(self, **{k: v[rows] for k, v in columns.items() if v is not None})


@runtime_checkable
class Estimator(Protocol):
    """A score per sample; higher means worth more."""

    def fit(self, data: ImportanceData) -> Self:
        """Learns what scoring needs."""

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32."""


@runtime_checkable
class Debiaser(Protocol):
    """A weight pair per sample: what the sample says once its bias is taken out."""

    def fit(self, data: ImportanceData) -> Self:
        """Learns the bias."""

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2): w⁺ and w⁻."""


def check_fitted(estimator: object, attribute: str) -> None:
    """Raises NotFittedError unless `fit` has set `attribute`."""
    if not hasattr(estimator, attribute):
        name = type(estimator).__name__
        raise NotFittedError(f"{name} is not fitted: call {name}.fit(data) before scoring")
