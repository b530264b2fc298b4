"""All estimators of one task, fitted once and then asked of any rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.affine import AffineCorrection
from heft.importance.base import ImportanceData
from heft.importance.click_model import ClickModel
from heft.importance.combine import plain_pairs
from heft.importance.examination import Examination
from heft.importance.inverse_propensity import InversePropensity
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.registry import parameters
from heft.importance.settings import ImportanceSettings

__all__ = [
    "BY_CLICKS",
    "Debias",
    "FittedTask",
    "Judged",
    "fit_by_clicks",
    "fit_task",
    "fit_tune",
    "with_human",
]

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
class Debias:
    """Who makes the pairs of a task, and what else hides its positives.

    Attributes:
        maker: None leaves (y, 1 − y).
        hidden_by: probabilities that multiply with examination.
        observer: examination, where `hidden_by` is not empty.
    """

    maker: Any = None
    hidden_by: tuple[Any, ...] = ()
    observer: Any = None

    def pairs(self, data: ImportanceData) -> Array:
        """(n, 2) float64."""
        if self.maker is None:
            return plain_pairs(data.label)
        return np.asarray(self.maker.pairs(self.hidden(data)), np.float64)

    def observed(self, data: ImportanceData) -> ImportanceData:
        """The data with the probability that a positive was seen."""
        if self.maker is None:
            return data
        hidden = self.hidden(data)
        return hidden.with_observed(self.maker.propensity(hidden))

    def hidden(self, data: ImportanceData) -> ImportanceData:
        """The data with the product of all probabilities of being seen as its propensity.

        Debias estimators take a known propensity for what it is, whatever hides
        the positive.
        """
        if not self.hidden_by:
            return data
        product = self.observer.propensity(data)
        for other in self.hidden_by:
            product = product * other.propensity(data)
        least = np.finfo(np.float32).tiny
        return replace(data, propensity=np.clip(product, least, 1.0).astype(np.float32))


@dataclass(frozen=True)
class FittedTask:
    """Estimators of one task. Nothing in it grows with the rows that are asked of it.

    Attributes:
        debias: makes the pairs.
        scorers, corrections: fitted, by name.
        constant: there was one label only, so that nothing was fitted.
    """

    debias: Debias = Debias()
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
        rows = {
            name: _asked(name, c.weight, clicks if name in BY_CLICKS else data, least=0.0)
            for name, c in self.corrections.items()
        }
        data = with_human(data, clicks, self.corrections)
        pairs = self.debias.pairs(data)
        _check("the debias pair", pairs)
        seen = self.debias.observed(data)
        scores = {name: _asked(name, s.score, seen) for name, s in self.scorers.items()}
        return Judged(pairs, scores, rows)


def fit_by_clicks(clicks: ImportanceData, settings: ImportanceSettings) -> dict[str, Any]:
    """The corrections that serve all tasks, fitted; see `BY_CLICKS`."""
    return {
        name: settings.create(name, random_state=settings.seed).fit(clicks)
        for name in settings.corrections
        if name in BY_CLICKS
    }


def with_human(
    data: ImportanceData, clicks: ImportanceData, corrections: Mapping[str, Any]
) -> ImportanceData:
    """The data with how far `fraud`, if it is among the corrections, lets each row count.

    The weight and not the probability: of the many who came once little is known.
    """
    if "fraud" not in corrections:
        return data
    return replace(data, human=_asked("fraud", corrections["fraud"].weight, clicks, least=0.0))


def fit_tune(
    data: ImportanceData,
    examination: Examination,
    settings: ImportanceSettings,
    task: str,
    train: FittedTask | None = None,
) -> Debias:
    """Inverse propensity on `data`, with what else hides positives as `train` learned it.

    Where `train` estimated attractiveness through a click model, it is the affine
    correction through the same one: the same quantity, on the same scale. It is
    what early stopping watches. A split without a positive has nothing to undo.
    """
    if not settings.chain(task) or not len(data) or not data.label.any():
        return Debias()
    known = train.debias if train else Debias()
    model = getattr(known.maker, "model_", None)
    if isinstance(model, ClickModel):
        return Debias(AffineCorrection(model, settings.minimum_propensity).fit(data))
    inverse = _inverse(examination, settings).fit(known.hidden(data))
    return Debias(inverse, known.hidden_by, known.observer)


def fit_task(
    data: ImportanceData,
    clicks: ImportanceData,
    task: str,
    examination: Examination,
    settings: ImportanceSettings,
    reference: ImportanceData | None = None,
    click_model: ClickModel | None = None,
    shared: Mapping[str, Any] | None = None,
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
        click_model: slopes and offsets by position, or None.
        shared: of `fit_by_clicks`, where that has been done.
    """
    if len(np.unique(data.label)) < 2:
        return FittedTask(constant=True)
    offered: dict[str, Any] = {"random_state": settings.seed, "reference": reference}
    corrections = dict(fit_by_clicks(clicks, settings) if shared is None else shared)
    for name in settings.corrections:
        if name not in corrections:
            corrections[name] = settings.create(name, **offered).fit(data)
    data = with_human(data, clicks, corrections)
    proxy = OutOfFoldProxy(settings.folds, settings.epochs, random_state=settings.seed)
    offered |= {"proxy": proxy, "examination": examination, "model": click_model}
    offered |= {"minimum": settings.minimum_propensity}
    debias = _fit_debias(data, task, examination, settings, offered)
    seen = debias.observed(data)
    if any("proxy" in parameters(name) for name in settings.exponents):
        proxy.fitted(seen)
    offered = {"proxy": proxy, "random_state": settings.seed}
    if reference is not None:
        offered["reference"] = debias.observed(reference)
    scorers = {name: settings.create(name, **offered).fit(seen) for name in settings.exponents}
    return FittedTask(debias, scorers, corrections)


def _fit_debias(
    data: ImportanceData,
    task: str,
    examination: Examination,
    settings: ImportanceSettings,
    offered: dict[str, Any],
) -> Debias:
    chain = settings.chain(task)
    if not chain:
        return Debias()
    hidden_by = tuple(settings.create(name, **offered).fit(data) for name in chain[1:])
    observer = _inverse(examination, settings).fit(data) if hidden_by else None
    hidden = Debias(None, hidden_by, observer).hidden(data)
    if chain[0] == "inverse_propensity":
        offered = offered | {
            "variance_power": settings.variance_power,
            "aggregate": settings.aggregate,
        }
    maker = settings.create(chain[0], **offered).fit(hidden)
    known = np.maximum(hidden.propensity, settings.minimum_propensity)
    if hidden_by and not np.allclose(maker.propensity(hidden), known, rtol=1e-3):
        raise ConfigError(
            f"debias of {task} is {list(chain)}: {chain[0]} does not take a known propensity, so "
            f"that {', '.join(chain[1:])} would have no effect; expected examination_posterior or "
            "inverse_propensity first"
        )
    return Debias(maker, hidden_by, observer)


def _inverse(examination: Examination, settings: ImportanceSettings) -> InversePropensity:
    """The inverse propensity estimator as the settings want it."""
    return InversePropensity(
        examination,
        minimum=settings.minimum_propensity,
        variance_power=settings.variance_power,
        aggregate=settings.aggregate,
    )


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
