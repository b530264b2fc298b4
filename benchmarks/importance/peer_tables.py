"""Tables for finding turned labels: OpenDataVal's protocol without a network.

Two of the tables that OpenDataVal fetches are drawn from a published formula
(2dplanes and fried) and are drawn again here; the others are scikit-learn's own,
its generators, and the built-in shop. None was chosen by its outcome.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn import datasets

from heft.lexical import lexical_features
from heft.simulate.builtin import builtin_judgements

__all__ = ["TABLES", "Split", "read_splits", "split_table", "write_splits"]

Array = np.ndarray
Table = tuple[Array, Array]

TRAIN, VALID, TEST = 1_000, 100, 500
_ROWS = TRAIN + VALID + TEST
_SPARE = 3_000  # rows a generator draws, so that seeds split differently
_GIVEN = ("x", "y", "valid_x", "valid_y", "test_x", "test_y")
_GRADE = 2  # of 0..3: from here on an item is what was asked for


@dataclass(frozen=True)
class Split:
    """One table, split and with some training labels turned over.

    Attributes:
        table, noise, seed: what it was made of.
        x, y: (n, d) float32 and (n,) {0, 1}, the training rows as methods see them.
        valid_x, valid_y: clean rows a method may use.
        test_x, test_y: clean rows that no detector sees; part of the protocol's splits.
        turned: (n,) bool, the truth.
    """

    table: str
    noise: float
    seed: int
    x: Array
    y: Array
    valid_x: Array
    valid_y: Array
    test_x: Array
    test_y: Array
    turned: Array

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.table}-{self.noise:g}-{self.seed}"


def _two_planes(rng: np.random.Generator) -> Table:
    """Breiman et al. 1984, *Classification and Regression Trees*: two planes, one per sign."""
    x = rng.integers(-1, 2, size=(_SPARE, 10)).astype(float)
    x[:, 0] = rng.choice([-1.0, 1.0], size=_SPARE)
    upper = 3 + 3 * x[:, 1] + 2 * x[:, 2] + x[:, 3]
    lower = -3 + 3 * x[:, 4] + 2 * x[:, 5] + x[:, 6]
    y = np.where(x[:, 0] > 0, upper, lower) + rng.normal(size=_SPARE)
    return x, y > y.mean()


def _fried(rng: np.random.Generator) -> Table:
    x, y = datasets.make_friedman1(_SPARE, 10, noise=1.0, random_state=_seed(rng))
    return x, y > y.mean()


def _friedman3(rng: np.random.Generator) -> Table:
    x, y = datasets.make_friedman3(_SPARE, noise=0.1, random_state=_seed(rng))
    return x, y > np.median(y)


def _bundled(load: Callable, positive: Callable[[Array], Array]) -> Callable:
    def table(rng: np.random.Generator) -> Table:
        x, y = load(return_X_y=True)
        return x, positive(y)

    return table


def _generated(make: Callable, **settings: object) -> Callable:
    def table(rng: np.random.Generator) -> Table:
        return make(n_samples=_SPARE, random_state=_seed(rng), **settings)

    return table


def _hastie(rng: np.random.Generator) -> Table:
    x, y = datasets.make_hastie_10_2(_SPARE, random_state=_seed(rng))
    return x, y > 0


def _shop(rng: np.random.Generator) -> Table:
    """Query and title of the built-in shop as letters see them, and the price."""
    judged = builtin_judgements()
    rows = judged.pairs.merge(judged.catalogue, on="item_id")
    rows = rows.iloc[rng.permutation(len(rows))[:_SPARE]]
    texts = (tf.constant(rows[column].to_numpy(str)) for column in ("query", "title"))
    columns = [np.asarray(column) for column in lexical_features(*texts).values()]
    columns.append(np.log(rows["price"].to_numpy()))
    return np.stack(columns, axis=1), rows["grade"].to_numpy() >= _GRADE


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


TABLES: dict[str, Callable[[np.random.Generator], Table]] = {
    "2dplanes": _two_planes,
    "fried": _fried,
    "friedman3": _friedman3,
    "breast_cancer": _bundled(datasets.load_breast_cancer, lambda y: y),
    "digits": _bundled(datasets.load_digits, lambda y: y >= 5),
    "wine": _bundled(datasets.load_wine, lambda y: y == 1),
    "iris": _bundled(datasets.load_iris, lambda y: y == 2),
    "linear": _generated(
        datasets.make_classification,
        n_features=20,
        n_informative=8,
        n_clusters_per_class=1,
        flip_y=0.0,
    ),
    "clusters": _generated(
        datasets.make_classification,
        n_features=12,
        n_informative=6,
        n_clusters_per_class=4,
        class_sep=1.5,
        flip_y=0.0,
    ),
    "wide": _generated(datasets.make_classification, n_features=60, n_informative=10, flip_y=0.0),
    "moons": _generated(datasets.make_moons, noise=0.25),
    "circles": _generated(datasets.make_circles, noise=0.12, factor=0.5),
    "hastie_10_2": _hastie,
    "shop": _shop,
}


def split_table(name: str, noise: float, seed: int) -> Split:
    """1,000 / 100 / 500 rows, in the same shares where a table has fewer.

    Exactly round(noise · n) training labels, drawn at random, are turned over.
    Features are standardised by the training rows.
    """
    rng = np.random.default_rng([seed, list(TABLES).index(name)])
    x, y = TABLES[name](rng)
    scale = min(1.0, len(y) / _ROWS)
    train, valid, test = (int(count * scale) for count in (TRAIN, VALID, TEST))
    order = _with_both_labels(np.asarray(y).astype(int), train, valid, rng)
    x = np.asarray(x, np.float64)
    used = order[:train]
    spread = x[used].std(axis=0)
    x = ((x - x[used].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)).astype(np.float32)
    y = np.asarray(y).astype(np.int64)
    turned = np.zeros(train, bool)
    turned[rng.choice(train, round(noise * train), replace=False)] = True
    parts = np.split(order[: train + valid + test], [train, train + valid])
    return Split(
        table=name,
        noise=noise,
        seed=seed,
        x=x[parts[0]],
        y=np.where(turned, 1 - y[parts[0]], y[parts[0]]),
        valid_x=x[parts[1]],
        valid_y=y[parts[1]],
        test_x=x[parts[2]],
        test_y=y[parts[2]],
        turned=turned,
    )


def _with_both_labels(y: Array, train: int, valid: int, rng: np.random.Generator) -> Array:
    """A random order whose validation rows have both labels; small tables may need a second try."""
    for _ in range(100):
        order = rng.permutation(len(y))
        if len(np.unique(y[order[train : train + valid]])) == 2:
            return order
    raise ValueError(f"no split of {len(y)} rows has both labels among {valid} validation rows")


def write_splits(splits: list[Split], folder: Path) -> None:
    """One .npz per split, without the truth: what every method, ours or not, is given."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        columns = {name: getattr(split, name) for name in _GIVEN}
        np.savez(folder / f"{split.name}.npz", **columns)


def read_splits(folder: Path) -> Iterator[tuple[str, dict[str, Array]]]:
    """Name and columns of each split in `folder`, by name."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as columns:
            yield path.stem, dict(columns)
