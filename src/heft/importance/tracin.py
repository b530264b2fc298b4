"""Whether training on a sample lowers the loss of the samples that matter."""

from typing import Self

import numpy as np

from heft.errors import ConfigError, DataError
from heft.importance.base import ImportanceData, check_fitted
from heft.importance.dynamics import ProxyEstimator
from heft.importance.keys import fold_of
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.proxy_trace import Checkpoints
from heft.importance.reference_gradients import CellSum, MeanGradients
from heft.importance.reference_slices import ReferenceSlices
from heft.importance.registry import register
from heft.importance.targets import targets_of

__all__ = ["TracIn"]


@register("tracin")
class TracIn(ProxyEstimator):
    """Loss on the reference that steps on a sample take away (Pruthi et al. 2020, TracInCP).

        Σₑ ηₑ · ⟨∇loss(sample), mean of ∇loss over the reference of its slice⟩

    over the checkpoints e, with the learning rate ηₑ (the mean of the epoch) and
    the gradients of all parameters, in closed form. In ℝ; positive where the
    sample helps, negative where it harms.

    A slice is a value of `slice` where data and reference have that column, else
    one of `slices` clusters of the reference's features. One gradient for
    everything says little: by the end of training it is about zero. A slice with
    fewer than ten reference rows takes the mean over all rows.

    Without a `reference` it is the data itself: of the fold that the network has
    not seen, the half that does not hold the sample's group. A network fitted to
    noisy labels has a mean gradient of about zero over labels with the same noise:
    such a score says what training has not finished, and nothing of wrong labels,
    for which a clean reference is needed. Adam's rescaling of the steps is not
    followed.

    Cost: 4·d·h·E multiplications a sample and the same a reference row (K times
    that where a reference is given); memory: 2·K·slices·E·d·h numbers.

    Args:
        proxy: shared out-of-fold model; its own if none is given.
        reference: clean samples that are not in the data.
        slices: how many clusters, and at most how many values of `slice`; 1 is a
            single mean.
        random_state: seed of the own model and of the clusters.

    Attributes:
        slices_: how a row finds its slice.
        means_: mean reference gradients, one `MeanGradients` per fold.
    """

    def __init__(
        self,
        proxy: OutOfFoldProxy | None = None,
        reference: ImportanceData | None = None,
        slices: int = 16,
        random_state: int = 0,
    ) -> None:
        if slices < 1:
            raise ConfigError(f"slices={slices}: expected at least 1")
        super().__init__(proxy, random_state)
        self.reference = reference
        self.slices = slices

    def fit(self, data: ImportanceData) -> Self:
        """Trains the proxy, unless a shared one is trained, and takes the reference gradients.

        Raises:
            DataError: no rows, all labels the same; a reference of no rows.
        """
        super().fit(data)
        reference = data if self.reference is None else self.reference
        if not len(reference):
            raise DataError("reference has 0 rows: expected at least one, or reference=None")
        proxy = self.proxy_
        by_column = data.slice is not None and reference.slice is not None
        slices = ReferenceSlices(self.slices, self.random_state)
        self.slices_ = slices.fit(reference, proxy.scaling_, by_column)
        self._sides = 2 if self.reference is None else 1
        networks = [[epoch[k] for epoch in proxy.networks_] for k in range(proxy.folds)]
        cells = (self.slices_.count + 1) * self._sides
        self.means_ = [MeanGradients(Checkpoints.of(each), cells) for each in networks]
        targets = targets_of(reference)
        cell = self._cell(reference)

        def sums(fold: int, rows: np.ndarray, inputs: np.ndarray) -> list[CellSum]:
            judges = [fold] if self.reference is None else range(proxy.folds)
            at = int(cell[rows[0]])
            return [
                CellSum(k, at, *self.means_[k].sums(inputs, targets.take(rows))) for k in judges
            ]

        for found in proxy.map_blocks(reference, sums, cell):
            for each in found:
                self.means_[each.fold].add(each)
        for mean in self.means_:
            mean.finish(self._sides)
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        """(n,) float32, of any rows, by networks that have not seen their groups.

        Raises:
            DataError: another number of features than in `fit`, or no `slice` column
                where the slices are those of one.
        """
        check_fitted(self, "means_")
        score = np.zeros(len(data), np.float32)
        cell = self._cell(data, other_side=True)
        targets = targets_of(data)
        rates = self.proxy_.learning_rates_.astype(np.float32)

        def dot(fold: int, rows: np.ndarray, inputs: np.ndarray) -> None:
            at = int(cell[rows[0]])
            score[rows] = self.means_[fold].dot(at, inputs, targets.take(rows), rates)

        self.proxy_.map_blocks(data, dot, cell)
        return score

    def _cell(self, data: ImportanceData, other_side: bool = False) -> np.ndarray:
        """(n,) slice · sides + side; the side is a hash of the group."""
        cell = self.slices_.of(data) * self._sides
        if self._sides == 1:
            return cell
        side = fold_of(data.group, 2, self.proxy_.random_state + 1)
        return cell + (1 - side if other_side else side)
