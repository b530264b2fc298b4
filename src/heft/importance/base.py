"""What every estimator takes and gives."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from heft.errors import DataError, NotFittedError

__all__ = [
    "Debiaser",
    "Estimator",
    "ImportanceData",
    "Observer",
    "Reweigher",
    "check_fitted",
    "need_column",
]

Array = np.ndarray

_REQUIRED = ("features", "group", "position", "propensity", "pair")
# Squares of what is larger, summed, leave float32.
_LARGEST = 1e15


@dataclass(frozen=True)
class ImportanceData:
    """The samples of one task, as columns of n rows.

    The first six every estimator may count on. What cannot be so is refused here,
    whatever reads it. The others are None where a log
    does not have them; an estimator that needs one says so.

    Attributes:
        features: (n, d) float32, what a proxy model may see of a sample.
        label: (n,) {0, 1}.
        group: (n,) int64; rows of one group (a request) share a fold.
        position: (n,) int64 from 1; 0 or less where unknown, which counts as 1.
        propensity: (n,) float32 in (0, 1]; NaN where not logged.
        pair: (n,) int64, the same number for the same query and item.
        examined: (n,) bool, rows known to have been examined whatever came of
            it, from viewport tracking, say; none where left out. That a row was
            clicked does not count: it is known of clicked rows alone.
        observed: (n,) in (0, 1], the probability that a positive could be seen
            (examination, say). `with_observed` sets it; ones where nothing is known.
        user: (n,) int64, who saw it.
        timestamp: (n,) int64, milliseconds since the epoch.
        click_delay: (n,) float32, seconds from impression to click; NaN without one.
        delay: (n,) float32, seconds from click to conversion; NaN without one.
        elapsed: (n,) float32, seconds a conversion could have been seen.
        sampling: (n,) float32 in (0, 1], the probability with which the row was
            kept when negatives were sampled down.
        slice: (n,) int64, which part of the data a row belongs to (a category).
        protected: (n,) int64, the group that fairness is about.
        domain: (n,) {0, 1}; 1 for rows of the target domain or period.
        relevance: (n,) float32, agreement of query and title as texts (cosine).
        spoken: (n,) float32, what the text encoder's attention says of the pair.
        human: (n,) float32 in [0, 1], the probability that a row is a person's.
        randomised: (n,) bool, rows of pages whose order was shuffled.
    """

    features: Array
    label: Array
    group: Array
    position: Array
    propensity: Array
    pair: Array
    examined: Array | None = None
    observed: Array | None = None
    user: Array | None = None
    timestamp: Array | None = None
    click_delay: Array | None = None
    delay: Array | None = None
    elapsed: Array | None = None
    sampling: Array | None = None
    slice: Array | None = None
    protected: Array | None = None
    domain: Array | None = None
    relevance: Array | None = None
    spoken: Array | None = None
    human: Array | None = None
    randomised: Array | None = None

    def __post_init__(self) -> None:
        rows = len(self.label)
        for name in self.__dataclass_fields__:
            column = getattr(self, name)
            if (column is not None or name in _REQUIRED) and len(column) != rows:
                raise DataError(
                    f"{name} has {len(column)} rows and label {rows}: "
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
        if self.features.size and (most := np.abs(self.features).max()) > _LARGEST:
            column = int(np.abs(self.features).max(axis=0).argmax())
            raise DataError(
                f"feature column {column} holds {most:.3g}: expected numbers within "
                f"±{_LARGEST:.0e}; scale the column, or take its logarithm"
            )
        _check_probability("propensity", self.propensity, "values in (0, 1], NaN where not logged")
        if self.observed is not None:
            expected = "a probability in (0, 1]; raise zeros to a least value first"
            _check_probability("observed", self.observed, expected, missing=False)
        if self.human is not None:
            expected = "a probability in [0, 1]"
            _check_probability("human", self.human, expected, missing=False, zero=True)

    @classmethod
    def of(cls, features: Array, label: Array, **columns: Array | None) -> "ImportanceData":
        """Samples of a plain table: every row its own group and pair, no position.

        Args:
            features: (n, d).
            label: (n,) {0, 1}.
            columns: any other attribute by name.
        """
        rows = np.arange(len(label), dtype=np.int64)
        plain: dict[str, Any] = {
            "group": rows,
            "pair": rows,
            "position": np.zeros(len(label), np.int64),
            "propensity": np.full(len(label), np.nan, np.float32),
        }
        features = np.asarray(features, np.float32)
        return cls(features=features, label=np.asarray(label, np.int64), **(plain | columns))

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
    """A score per sample; higher means worth more.

    `score` takes any samples, those of `fit` among them: what it says of a
    sample comes from a model that has not seen the sample's group, unless the
    estimator is about training on the sample itself and says so.
    """

    def fit(self, data: ImportanceData) -> Self:
        """Learns what scoring needs."""

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32."""


@runtime_checkable
class Observer(Estimator, Protocol):
    """Knows how likely a positive was to be seen."""

    def propensity(self, data: ImportanceData) -> Array:
        """(n,) in (0, 1]."""


@runtime_checkable
class Debiaser(Estimator, Protocol):
    """A weight pair per sample: what the sample says once its bias is taken out."""

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2): w⁺ and w⁻."""


@runtime_checkable
class Reweigher(Estimator, Protocol):
    """A weight per sample, for its positive and its negative part alike."""

    def weight(self, data: ImportanceData) -> Array:
        """(n,) float32, at least 0."""


def _check_probability(
    name: str, values: Array, expected: str, *, missing: bool = True, zero: bool = False
) -> None:
    """Raises DataError for what is outside (0, 1]; NaN and 0 pass where they mean something."""
    good = (values <= 1) & ((values >= 0) if zero else (values > 0))
    odd = ~(good | np.isnan(values)) if missing else ~good
    if odd.any():
        raise DataError(f"{name}={values[odd][0]} in {int(odd.sum())} rows: expected {expected}")


def check_fitted(estimator: object, attribute: str) -> None:
    """Raises NotFittedError unless `fit` has set `attribute`."""
    if not hasattr(estimator, attribute):
        name = type(estimator).__name__
        raise NotFittedError(f"{name} is not fitted: call {name}.fit(data) before scoring")


def need_column(data: ImportanceData, name: str, estimator: str) -> Array:
    """The column `name` of `data`.

    Raises:
        DataError: the data does not have it.
    """
    column: Array | None = getattr(data, name)
    if column is None:
        raise DataError(f"{estimator} needs the column {name!r}, which this data does not have")
    return column
