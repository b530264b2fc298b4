"""All estimators of one task, fitted once and then asked of any rows."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heft.errors import DataError
from heft.importance.base import ImportanceData
from heft.importance.combine import plain_pairs
from heft.importance.examination import Examination
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import parameters
from heft.importance.settings import ImportanceSettings

__all__ = ["BY_CLICKS", "FittedTask", "FittedTune", "Judged", "fit_task", "fit_tune"]

Array = np.ndarray

# These judge whoever clicked and whatever was shown, not a task's label: fitted
# on clicks, and one weight for all tasks of a row.
BY_CLICKS = ("fraud", "domain_ratio")


@dataclass(frozen=True)
class Judged:
    """What estimators say of n rows.

    Attributes:
        pairs: (n, 2) float64, the debias pair.
        scores: (n,) float32 by estimator name.
        rows: (n,) float32 by name of a correction, at least 0.
    """

    pairs: Array
    scores: dict[str, Array]
    rows: dict[str, Array]


@dataclass(frozen=True)
class FittedTask:
    """Estimators of one task. Nothing in it grows with the rows that are asked of it.

    Attributes:
        debias: makes pairs; None leaves (y, 1 − y).
        hidden_by: what else hides a positive; probabilities multiply.
        observer: examination, where `hidden_by` is not empty.
        scorers, corrections: fitted, by name.
        constant: there was one label only, so that nothing was fitted.
    """

    debias: Any = None
    hidden_by: tuple[Any, ...] = ()
    observer: Any = None
    scorers: dict[str, Any] = field(default_factory=dict)
    corrections: dict[str, Any] = field(default_factory=dict)
    constant: bool = False

    def judge(self, data: ImportanceData, clicks: ImportanceData) -> Judged:
        """Asks every estimator about `data`; `clicks` are the same rows of the click task.

        Raises:
            DataError: an estimator gave NaN, infinity or a negative row weight.
        """
        if not len(data):
            empty = np.empty(0, np.float32)
            return Judged(
                np.empty((0, 2)),
                dict.fromkeys(self.scorers, empty),
                dict.fromkeys(self.corrections, empty),
            )
        seen = self._seen(data)
        pairs = plain_pairs(data.label) if self.debias is None else self.debias.pairs(seen)
        _check("the debias pair", pairs)
        if self.debias is not None:
            seen = seen.with_observed(self.debias.propensity(seen))
        scores = {name: _asked(name, s.score, seen) for name, s in self.scorers.items()}
        rows = {
            name: _asked(name, c.weight, clicks if name in BY_CLICKS else data, least=0.0)
            for name, c in self.corrections.items()
        }
        return Judged(np.asarray(pairs, np.float64), scores, rows)

    def _seen(self, data: ImportanceData) -> ImportanceData:
        return _hidden(data, self.observer, self.hidden_by)


@dataclass(frozen=True)
class FittedTune:
    """The pairs of a split that early stopping watches.

    Attributes:
        inverse: inverse propensity, fitted on the split; None leaves (y, 1 − y).
        observer, hidden_by: as of `FittedTask`.
    """

    inverse: InversePropensity | None = None
    observer: Any = None
    hidden_by: tuple[Any, ...] = ()

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64."""
        if self.inverse is None or not len(data):
            return plain_pairs(data.label)
        return self.inverse.pairs(_hidden(data, self.observer, self.hidden_by))


def fit_tune(
    data: ImportanceData,
    examination: Examination,
    settings: ImportanceSettings,
    task: str,
    train: FittedTask | None = None,
) -> FittedTune:
    """Inverse propensity on `data`, with what else hides positives as `train` learned it.

    A split without a positive has nothing to undo.
    """
    if not settings.chain(task) or not len(data) or not data.label.any():
        return FittedTune()
    observer, hidden_by = (train.observer, train.hidden_by) if train else (None, ())
    seen = _hidden(data, observer, hidden_by)
    return FittedTune(_inverse(examination, settings).fit(seen), observer, hidden_by)


def fit_task(
    data: ImportanceData,
    clicks: ImportanceData,
    task: str,
    examination: Examination,
    settings: ImportanceSettings,
    reference: ImportanceData | None = None,
) -> FittedTask:
    """Fits what the settings name on `data`.

    A task whose labels are all the same has nothing to estimate: a log without
    conversions, say. Its pairs are (y, 1 − y), without scores.

    Args:
        data: samples of the task.
        clicks: the same rows as samples of the click task.
        task: its name.
        examination: a known curve.
        settings: estimators and their settings.
        reference: clean samples, or None.
    """
    if len(np.unique(data.label)) < 2:
        return FittedTask(constant=True)
    proxy = OutOfFoldProxy(settings.folds, settings.epochs, random_state=settings.seed)
    inverse = _inverse(examination, settings)
    offered = {
        "proxy": proxy,
        "examination": examination,
        "minimum": settings.minimum_propensity,
        "variance_power": settings.variance_power,
        "aggregate": settings.aggregate,
        "random_state": settings.seed,
    }
    maker, hidden_by, observer = None, (), None
    chain = settings.chain(task)
    seen = data
    if chain:
        hidden_by = tuple(settings.create(name, **offered).fit(data) for name in chain[1:])
        observer = inverse.fit(data) if hidden_by else None
        seen = _hidden(data, observer, hidden_by)
        maker = settings.create(chain[0], **offered).fit(seen)
        seen = seen.with_observed(maker.propensity(seen))
    if reference is not None and chain:
        reference = _observed_reference(reference, maker, observer, hidden_by)
    if any("proxy" in parameters(name) for name in settings.exponents):
        proxy.fitted(seen)
    offered = {"proxy": proxy, "reference": reference, "random_state": settings.seed}
    scorers = {name: settings.create(name, **offered).fit(seen) for name in settings.exponents}
    corrections = {
        name: settings.create(name, **offered).fit(clicks if name in BY_CLICKS else data)
        for name in settings.corrections
    }
    return FittedTask(maker, hidden_by, observer, scorers, corrections)


def _inverse(examination: Examination, settings: ImportanceSettings) -> InversePropensity:
    """The inverse propensity estimator as the settings want it."""
    return InversePropensity(
        examination,
        minimum=settings.minimum_propensity,
        variance_power=settings.variance_power,
        aggregate=settings.aggregate,
    )


def _hidden(data: ImportanceData, observer: Any, hidden_by: tuple[Any, ...]) -> ImportanceData:
    """The data with the product of all probabilities of being seen as its propensity.

    Debias estimators take a known propensity for what it is, whatever hides the
    positive.
    """
    if not hidden_by:
        return data
    product = observer.propensity(data)
    for other in hidden_by:
        product = product * other.propensity(data)
    least = np.finfo(np.float32).tiny
    return replace(data, propensity=np.clip(product, least, 1.0).astype(np.float32))


def _observed_reference(
    reference: ImportanceData, maker: Any, observer: Any, hidden_by: tuple[Any, ...]
) -> ImportanceData:
    seen = _hidden(reference, observer, hidden_by)
    return seen.with_observed(maker.propensity(seen))


def _asked(
    name: str,
    ask: Callable[[ImportanceData], Array],
    data: ImportanceData,
    least: float = -np.inf,
) -> Array:
    found = np.asarray(ask(data), np.float32)
    if found.shape != (len(data),):
        raise DataError(f"{name} gave the shape {found.shape} for {len(data)} rows")
    _check(name, found)
    if len(found) and found.min() < least:
        raise DataError(f"{name} gave {found.min()}: expected at least {least}")
    return found


def _check(name: str, found: Array) -> None:
    odd = int((~np.isfinite(found)).sum())
    if odd:
        raise DataError(
            f"{name}: {odd} of {found.size} values are NaN or infinite, expected numbers; leave "
            "the estimator out, or see which rows it cannot judge"
        )
