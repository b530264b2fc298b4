"""What training on a sample does to the loss on samples that can be trusted."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted, need_column
from heft.importance.keys import fold_of
from heft.importance.last_layer import LastLayers, check_labels
from heft.importance.logistic import LogisticLayer
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.reference_slices import ReferenceSlices
from heft.importance.registry import register
from heft.importance.stacked import Scaling

__all__ = ["Influence", "attribution"]

Array = np.ndarray

_PRIOR = 20  # reference rows that the mean over all counts as in the mean of a slice
_MOST_VALUES = 1_000  # of a slice column


@register("influence")
class Influence:
    """Loss on a reference that training on the sample takes away (Koh & Liang 2017).

        gᵢᵀ H⁻¹ G(slice of i)

    gᵢ = r h is the gradient of the sample's loss by the last layer (r = p − y, h
    with a one for the bias), H = Σ p (1 − p) h hᵀ + l2 · I over the rows of `fit`,
    exact by Cholesky, and G the mean gradient of the reference rows in the sample's
    slice. To first order it is what that slice's mean loss falls by, in nats, when
    one more such sample is trained on. In ℝ; positive helps, negative harms.

    A slice is a value of `slice` where data and reference have that column, else
    one of `slices` clusters of the reference's features. A fitted layer has a mean
    gradient of nearly zero over everything, and what is left of it does not tell
    wrong labels from right ones; where it errs, it errs by slice. G counts the mean
    over all reference rows as 20 rows more, so that a small slice leans on the
    rest; a sample of a slice without reference rows gets the mean over all.

    Without a `reference` the groups are dealt to `folds`; for each fold the layer is
    fitted on the other folds and the fold is the reference, and a sample gets the
    mean over the folds that do not hold its group. That asks whether a sample agrees
    with what the layer misses; a layer that fits the data's wrong labels as well as
    it can has no error left that would tell them. Use it for value, not for quality.

    With a proxy, h is the hidden layer of the network that has not seen the sample's
    group, and each fold has a last layer, an H and a G of its own.

    Cost: O(n d²) time to fit, in two or three passes for large n, `folds` times
    that without a reference; O(n d · slices) to score. Memory beyond the data:
    O(d² + m d) for m reference rows; without a reference, a copy of the data.

    Args:
        proxy: shared out-of-fold model whose hidden layer to use; the last layer
            is fitted on the features where none is given.
        reference: samples with labels that can be trusted, none of them in the data.
        slices: clusters where there is no column of slices, at least 1.
        l2: penalty of the coefficients, above 0, in the units of a sum over rows; the
            inputs are standardised, and the bias is drawn to the base rate.
        folds: at least 2; used without a reference.
        random_state: seed of clusters, folds and of where Newton's method starts.

    Raises:
        ConfigError: `slices` or `folds` is too small.
    """

    kind: ClassVar[str] = "value"

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        reference: ImportanceData | None = None,
        slices: int = 20,
        l2: float = 1.0,
        folds: int = 4,
        random_state: int = 0,
    ) -> None:
        for name, value, least in (("slices", slices, 1), ("folds", folds, 2)):
            if value < least:
                raise ConfigError(f"{name}={value}: expected at least {least}")
        self.proxy = proxy
        self.reference = reference
        self.slices = slices
        self.l2 = l2
        self.folds = folds
        self.random_state = random_state

    def fit(self, data: ImportanceData) -> Self:
        """Fits the last layers and takes the reference's gradients.

        Raises:
            DataError: all labels the same; a reference of no rows or of other
                features; no reference and all groups in one fold.
            ConfigError: l2 is not above 0.
        """
        check_labels(data)
        by_column = data.slice is not None and (self.reference or data).slice is not None
        if self.reference is not None:
            self.parts_ = [(-1, self._part(data, self.reference, by_column))]
            return self
        if self.proxy is not None:
            self.proxy.fitted(data)  # on all rows, before its first part is looked at
        fold = self._fold(data)
        numbers = np.unique(fold)
        if len(numbers) < 2:
            raise DataError(
                f"all {len(data)} rows are in one fold of groups: expected groups in at least 2 "
                "of them; use more groups or give a reference"
            )
        self.parts_ = [
            (int(k), self._part(data.take(fold != k), data.take(fold == k), by_column))
            for k in numbers
        ]
        return self

    def score(self, data: ImportanceData) -> Array:
        """(n,) float32 in nats; positive where the sample helps.

        Raises:
            DataError: other features than in `fit`; no `slice` column where the slices
                are those of one.
        """
        check_fitted(self, "parts_")
        fold = self._fold(data)
        total, parts = np.zeros(len(data), np.float32), np.zeros(len(data), np.float32)
        for k, part in self.parts_:
            judged = fold != k
            total += np.where(judged, part.score(data), 0)
            parts += judged
        return total / parts

    def _fold(self, data: ImportanceData) -> Array:
        # Not the proxy's deal, or a fold of the one would be a fold of the other.
        return fold_of(data.group, self.folds, self.random_state + 1)

    def _part(self, data: ImportanceData, reference: ImportanceData, by_column: bool) -> "_Part":
        if not len(reference):
            raise DataError("reference has 0 rows: expected at least one, or reference=None")
        layers = LastLayers.fit(data, self.proxy, self.l2, self.random_state)
        slices = ReferenceSlices(_MOST_VALUES if by_column else self.slices, self.random_state)
        slices.fit(reference, Scaling.of(data.features), by_column)
        slice_of = slices.of(reference)
        means = {
            k: layer.solve(_shrunk_means(_gradients(layers, reference, k), slice_of, slices.count))
            for k, layer in layers.layers.items()
        }
        return _Part(layers, slices, means)


@dataclass(frozen=True)
class _Part:
    """Last layers of some rows, and H⁻¹ G by layer and slice of a reference."""

    layers: LastLayers
    slices: ReferenceSlices
    directions: dict[int, Array]

    def score(self, data: ImportanceData) -> Array:
        if self.slices.by_column_:
            need_column(data, "slice", "influence")
        slice_of, observed = self.slices.of(data), data.observation()

        def of(k: int, layer: LogisticLayer, h: Array, rows: Array) -> Array:
            residual, _ = layer.slopes(h, data.label[rows], observed[rows])
            towards: Array = np.einsum("bd,bd->b", h, self.directions[k][slice_of[rows]])
            return residual * towards

        return self.layers.rowwise(data, of)


def attribution(
    data: ImportanceData,
    targets: ImportanceData,
    proxy: OutOfFoldProxy | None = None,
    l2: float = 1.0,
    random_state: int = 0,
) -> Array:
    """Each row's influence on each target: gᵢᵀ H⁻¹ gₜ (Koh & Liang 2017).

    To first order what the loss of target t falls by when row i is trained on once
    more, in nats. The sum over a subset of rows ranks subsets by what a last layer
    trained on them would say of t.

    Cost: O(n d² + n m d) time, 4 · n · m bytes.

    Args:
        data: n rows, on which the last layers are fitted.
        targets: m rows, not in the data.
        proxy, l2, random_state: as of `Influence`.

    Returns:
        (n, m) float32; positive where the row helps.

    Raises:
        DataError: all labels of `data` are the same, or the targets have other features.
        ConfigError: l2 is not above 0.
    """
    check_labels(data)
    layers = LastLayers.fit(data, proxy, l2, random_state)
    towards = {
        k: layer.solve(_gradients(layers, targets, k)).T for k, layer in layers.layers.items()
    }
    observed = data.observation()

    def of(k: int, layer: LogisticLayer, h: Array, rows: Array) -> Array:
        residual, _ = layer.slopes(h, data.label[rows], observed[rows])
        influence: Array = (residual[:, None] * h) @ towards[k]
        return influence

    return layers.rowwise(data, of, width=len(targets))


def _gradients(layers: LastLayers, data: ImportanceData, number: int) -> Array:
    """(n, d + 1) gradients of the loss of every row by the layer of that number."""
    observed = data.observation()

    def of(k: int, layer: LogisticLayer, h: Array, rows: Array) -> Array:
        residual, _ = layer.slopes(h, data.label[rows], observed[rows])
        gradient: Array = residual[:, None] * h
        return gradient

    width = len(layers.layers[number].coefficients)
    return layers.rowwise(data, of, width=width, number=number)


def _shrunk_means(gradients: Array, slice_of: Array, count: int) -> Array:
    """(count + 1, d + 1): the mean of each slice, drawn to that of all; that of all last."""
    overall = gradients.mean(axis=0, dtype=np.float64)
    sums, rows = np.zeros((count + 1, gradients.shape[1])), np.zeros(count + 1)
    np.add.at(sums, slice_of, gradients)
    np.add.at(rows, slice_of, 1)
    sums[count] = 0
    rows[count] = 0
    means: Array = (sums + _PRIOR * overall) / (rows + _PRIOR)[:, None]
    return means
