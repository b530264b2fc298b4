"""Examination from a log whose pairs seldom repeat: a ranker and a curve that correct each other.

Ai, Bi, Luo, Guo & Croft 2018, *Unbiased Learning to Rank with Unbiased Propensity
Estimation*.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData
from heft.importance.examination import Examination, _monotone
from heft.importance.keys import fold_of
from heft.importance.positioned import DEEPEST, human_mass, positioned
from heft.importance.stacked import Scaling, Stacked, _Adam, threads

__all__ = ["from_dual_learning"]

Array = np.ndarray

_BATCH = 2560  # rows a step, about
_LEAST_STEPS = 1000
_RANKER_RATE, _CURVE_RATE = 3e-3, 0.05
_DECAY = 0.95  # share of the learning rates that is gone by the last step
_TAIL = 0.3  # share of the steps over which the curve is averaged


def from_dual_learning(
    data: ImportanceData,
    hidden: int = 32,
    folds: int = 2,
    epochs: int = 10,
    clip: float = 100.0,
    minimum_clicks: int = 50,
    random_state: int = 0,
) -> Examination:
    """Examination by position, learned together with a ranker over requests (dual learning).

    A ranker gives each row i of a request a logit f(i), a curve each position k a
    logit g(k); both are trained by softmax losses over the rows of a request,
    each weighted by the inverse of what the other says:

        −Σ c(i)·e^(g(first) − g(i)) · log softmax(f)(i)
        −Σ c(i)·mean(e^f)/e^f(i)    · log softmax(g)(i)

    In expectation the first is about attractiveness alone and the second about
    examination alone: θ(k) = e^(g(k) − g(1)). The second weight is relative to
    the mean of the request, where the paper takes its first row: any number that is
    the same for the whole request has the same expectation, and the mean has less
    variance. A request weighs its curve by rankers that have not seen it.

    Only order within a request matters here, so that what a whole request has in
    common (how good its query is) cannot pass for examination. As in regression-EM,
    what the production ranker knew beyond the features can.

    Args:
        data: the samples, in requests by `group`; rows without a position are left
            out, and `human` says how much of a row's click counts.
        hidden: width of the rankers' hidden layer; 0 is linear.
        folds: rankers, at least 2; requests are dealt to them by hash.
        epochs: at least 1; on small data more, so that there are 1,000 steps.
        clip: most that a click weighs, above 1. Less than θ(1)/θ(last) and the
            curve comes out too flat.
        minimum_clicks: fewer than this in requests of two rows or more and the
            estimate is refused.
        random_state: seed of folds, first layers and order.

    Cost: 6·d·h·folds multiplications a row of clicked requests and epoch, on one
    core; memory: one batch, and five numbers a row.

    Raises:
        ConfigError: settings that mean nothing.
        DataError: see `positioned`; too few clicks in requests of two rows or more.
    """
    _check(hidden, folds, epochs, clip)
    data = positioned(data, minimum_clicks)
    lists = _Lists.of(data, folds, random_state)
    clicks = round(float(lists.click.sum()))
    if clicks < minimum_clicks:
        raise DataError(
            f"{clicks} clicks in requests of two rows or more: expected at least {minimum_clicks} "
            "to compare rows of a request; group rows by request_id, or use examination: pairs"
        )
    with threads():  # which holds products of matrices at one thread each
        curve = _learn(data.features, lists, hidden, epochs, clip, random_state)
    shown = np.bincount(lists.place, minlength=len(curve)).astype(float)
    return Examination(_monotone(curve * shown, shown), clicks, "dual learning")


class _Batch(NamedTuple):
    """Rows of some requests: where they are in memory, and where each request begins.

    Attributes:
        rows, place: (b,). click: (b,) float64. fold: (b,).
        begin: (q,) of each request, within the batch. request: (b,) in [0, q).
    """

    rows: Array
    place: Array
    click: Array
    fold: Array
    begin: Array
    request: Array

    def softmax(self, logit: Array) -> Array:
        """Within each request, of (b,) or (b, m)."""
        odds = np.exp(logit - np.maximum.reduceat(logit, self.begin)[self.request])
        return odds / np.add.reduceat(odds, self.begin)[self.request]

    def pull(self, logit: Array, weight: Array) -> Array:
        """∂/∂logit of −Σ weight · log softmax(logit); shapes as of `softmax`."""
        total = np.add.reduceat(weight, self.begin)[self.request]
        if logit.ndim == 2:
            weight, total = weight[:, None], total[:, None]
        return self.softmax(logit) * total - weight


@dataclass(frozen=True)
class _Lists:
    """Requests of two rows or more with a click, in an order that follows from their keys.

    Attributes:
        rows: (r,) row numbers, request by request. place: (r,) from 0.
        click: (r,) float64, what a click counts. fold: (r,).
        begin, size: (requests,), into `rows`.
    """

    rows: Array
    place: Array
    click: Array
    fold: Array
    begin: Array
    size: Array

    @classmethod
    def of(cls, data: ImportanceData, folds: int, seed: int) -> "_Lists":
        rows = np.lexsort((data.label, data.pair, data.position, data.group))
        group = data.group[rows]
        begin = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        size = np.diff(np.r_[begin, len(group)])
        click = (data.label * human_mass(data))[rows]
        speaks = (size > 1) & (np.add.reduceat(click, begin) > 0)
        rows, click = rows[np.repeat(speaks, size)], click[np.repeat(speaks, size)]
        size = size[speaks]
        place = np.minimum(data.position[rows], DEEPEST) - 1
        fold = fold_of(data.group[rows], folds, seed)
        return cls(rows, place, click, fold, np.cumsum(size) - size, size)

    def batches(self, requests: int, rng: np.random.Generator) -> Iterator[_Batch]:
        """All requests in random order, so many at a time."""
        order = rng.permutation(len(self.begin))
        for start in range(0, len(order), requests):
            chosen = order[start : start + requests]
            size = self.size[chosen]
            begin = np.cumsum(size) - size
            request = np.repeat(np.arange(len(chosen)), size)
            at = np.arange(len(request)) + (self.begin[chosen] - begin)[request]
            yield _Batch(
                self.rows[at], self.place[at], self.click[at], self.fold[at], begin, request
            )


def _learn(
    features: Array, lists: _Lists, hidden: int, epochs: int, clip: float, seed: int
) -> Array:
    """(positions,) e^g relative to the first position."""
    features = np.ascontiguousarray(features, np.float32)
    scaling = Scaling.of(features)
    folds = int(lists.fold.max()) + 1 if len(lists.fold) else 1
    rankers = Stacked(features.shape[1], hidden, np.zeros(max(folds, 2)), seed % 2**32)
    curve = np.zeros(int(lists.place.max()) + 1)
    requests = len(lists.begin)
    size = max(2, min(int(_BATCH / lists.size.mean()), requests // 100))
    steps = -(-requests // size)
    epochs = max(epochs, -(-_LEAST_STEPS // steps))
    tune_rankers, tune_curve = _Adam(rankers.parameters()), _Adam([curve])
    rng = np.random.default_rng([seed % 2**32, 1])
    total, average, averaged = steps * epochs, np.zeros_like(curve), 0
    for _ in range(epochs):
        for batch in lists.batches(size, rng):
            rate = 1 - _DECAY * tune_curve.steps / total
            gradients, pull = _gradients(rankers, curve, batch, features, scaling, clip)
            tune_rankers.step(gradients, _RANKER_RATE * rate)
            tune_curve.step([pull], _CURVE_RATE * rate)
            if tune_curve.steps > (1 - _TAIL) * total:
                average += curve
                averaged += 1
    average /= averaged
    return np.exp(average - average[lists.place.min()])


def _gradients(
    rankers: Stacked, curve: Array, batch: _Batch, features: Array, scaling: Scaling, clip: float
) -> tuple[list[Array], Array]:
    """Of the rankers' parameters, and of the curve (positions,); means over requests."""
    inputs = scaling.rows(features, batch.rows)
    folds, count = len(rankers.w2), len(batch.begin)
    last, inner = inputs, None
    if rankers.hidden:
        inner = np.maximum(inputs @ rankers.w1 + rankers.b1, 0)
        parts = inner.reshape(-1, folds, rankers.hidden)
        logit = np.einsum("bkh,kh->bk", parts, rankers.w2)
    else:
        logit = last @ rankers.w2.T
    theta = curve[batch.place]
    inverse = np.exp(np.minimum(theta[batch.begin][batch.request] - theta, np.log(clip)))
    pull = batch.pull(logit, batch.click * inverse) / count
    pull[np.arange(len(pull)), batch.fold] = 0  # what judges a request does not learn from it
    gradients = _through(rankers, inputs, inner, pull.astype(np.float32))
    share = batch.softmax(logit[np.arange(len(logit)), batch.fold].astype(np.float64))
    size = np.bincount(batch.request)[batch.request]
    weight = batch.click * np.minimum(1 / np.maximum(size * share, 1e-12), clip)
    back = np.bincount(batch.place, batch.pull(theta, weight), minlength=len(curve))
    return gradients, back / count


def _through(rankers: Stacked, inputs: Array, inner: Array | None, pull: Array) -> list[Array]:
    """Gradients of the parameters, as `Stacked.parameters`, from those of the logits (b, K).

    No bias of the last layer: it is the same for all rows of a request.
    """
    still = np.zeros_like(rankers.b2)
    if inner is None:
        return [rankers.w1, rankers.b1, pull.T @ inputs, still]
    parts = inner.reshape(len(inner), *rankers.w2.shape)
    w2 = np.einsum("bk,bkh->kh", pull, parts)
    back = (pull[:, :, None] * rankers.w2 * (parts > 0)).reshape(inner.shape)
    return [inputs.T @ back, back.sum(axis=0), w2, still]


def _check(hidden: int, folds: int, epochs: int, clip: float) -> None:
    for name, value, least in (("hidden", hidden, 0), ("folds", folds, 2), ("epochs", epochs, 1)):
        if value < least:
            raise ConfigError(f"{name}={value}: expected at least {least}")
    if not clip > 1:
        raise ConfigError(f"clip={clip}: expected above 1")
