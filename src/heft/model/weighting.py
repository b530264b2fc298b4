"""How weight pairs enter training. Every mode is a rule for a batch of target rows.

| mode | rows of an epoch | pairs in the loss |
|---|---|---|
| `loss` | each once | as they are |
| `sampling` | n draws, in proportion to the mass m of a row | divided by m / mean m |
| `both` | n draws, in proportion to √m | divided by √m / mean √m |
| `curriculum` | each once | from labels to pairs, linearly over the first epochs |
| `formula_4_2` | each once | (w s⁺, (1 − w) s⁻), w = m / (1 + m), s± = w± / m |
| `learned` | each once | multiplied by a weight net, see `heft.model.learned` |

m is half the sum of the absolute weights of both pairs, 1 without weighting. A draw is
divided by how often it is expected, so that the expected gradient of an epoch is
that of `loss` (importance sampling; Katharopoulos & Fleuret 2018). `formula_4_2`
is −[y·w·log ŷ + (1 − y)(1 − w)·log(1 − ŷ)] with a soft y = s⁺; it moves the base rate, and
the calibration that follows training moves it back.
"""

import tensorflow as tf

from heft.model import targets as t
from heft.model.packing import PackedRows

__all__ = ["SAMPLING_POWER", "Weighting", "plain_pairs"]

SAMPLING_POWER = {"sampling": 1.0, "both": 0.5}


def plain_pairs(rows: tf.Tensor) -> tf.Tensor:
    """(rows, 4) the pairs of the labels alone, (y, 1 − y) for each task."""
    click, conversion = rows[:, t.CLICK], rows[:, t.CONVERSION]
    return tf.stack([click, 1 - click, conversion, 1 - conversion], axis=1)


class Weighting:
    """The pairs of a batch by mode, and how likely each row is drawn.

    Args:
        mode: of the table above, or `none` for the control.
        packed: the rows that are drawn from.
        curriculum_epochs: of `curriculum`.
    """

    def __init__(self, mode: str, packed: PackedRows, curriculum_epochs: float = 1.0) -> None:
        self.mode = mode
        self.power = SAMPLING_POWER.get(mode)
        self.total = packed.mass if self.power == 1.0 else packed.root_mass
        self.rows = packed.rows
        self.curriculum_epochs = curriculum_epochs

    @property
    def draws(self) -> bool:
        """Whether rows are drawn, not taken each once."""
        return self.power is not None

    def propensities(self, rows: tf.Tensor) -> tf.Tensor:
        """(rows,) float64 how often each row is expected in an epoch; mean 1."""
        mass = tf.reduce_sum(tf.abs(tf.cast(rows[:, t.PAIRS], tf.float64)), axis=1) / 2
        return mass**self.power * (self.rows / self.total)

    def pairs(self, rows: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        """(rows, 4) what the loss takes.

        Args:
            rows: (rows, `targets.WIDTH`), drawn already where the mode draws.
            epoch: how many are behind, () float32, with fractions.
        """
        pairs = rows[:, t.PAIRS]
        if self.mode == "none":
            return plain_pairs(rows)
        if self.draws:
            expected = tf.cast(self.propensities(rows), tf.float32)[:, tf.newaxis]
            return tf.math.divide_no_nan(pairs, expected)
        if self.mode == "curriculum":
            share = tf.minimum(epoch / self.curriculum_epochs, 1.0)
            return share * pairs + (1 - share) * plain_pairs(rows)
        if self.mode == "formula_4_2":
            return tf.concat([_formula(pairs[:, :2]), _formula(pairs[:, 2:])], axis=1)
        return pairs


def _formula(pair: tf.Tensor) -> tf.Tensor:
    mass = tf.reduce_sum(tf.abs(pair), axis=1, keepdims=True)
    weight = mass / (1 + mass)
    return tf.math.divide_no_nan(pair, mass) * tf.concat([weight, 1 - weight], axis=1)
