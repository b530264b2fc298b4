"""Training rows as blocks of fixed width: parsed once, read many times.

A tf.Example costs far more to inflate and parse than a step of the network on
it, and each row is read once per epoch, by the weighted model and by the
control. So the columns of the model are written once more, as TFRecords that
each hold a block of rows: 32-bit words, row by row, integers and floats alike.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from heft import features as f
from heft.errors import TrainingError
from heft.examples import Feature, iterate_columns

__all__ = ["BLOCK_ROWS", "WEIGHT_COLUMNS", "Layout", "PackedRows", "pack"]

BLOCK_ROWS = 1024
_FILE_BLOCKS = 64
_THREADS = 2  # shards at once; inflating and parsing happen outside Python's lock

WEIGHT_COLUMNS = tuple(
    column(task) for task in f.TASKS for column in (f.positive_weight, f.negative_weight)
)


@dataclass(frozen=True)
class Layout:
    """Which column stands where in a packed row.

    Attributes:
        integers: ids, labels and the position; the first words of a row.
        floats: dense inputs, vectors, weights and the time of observation; the rest.
        widths: words of each column that has more than one.
    """

    integers: tuple[str, ...]
    floats: tuple[str, ...]
    widths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        categorical: Sequence[str],
        dense: Sequence[str],
        vectors: Mapping[str, int] = MappingProxyType({}),
        history: int = 0,
    ) -> "Layout":
        """The layout for a model with these inputs; of `vectors` the widths by name, of `history`
        the clicks."""
        labels = (f.CLICK, f.CONVERSION, f.POSITION)
        integers = (f.QUERY_ID, f.TITLE_ID, *categorical, *labels)
        integers += (f.HISTORY_IDS,) if history else ()
        floats = (*dense, *vectors, *WEIGHT_COLUMNS, f.OBSERVATION)
        widths = {f.HISTORY_IDS: history} if history else {}
        return cls(integers, floats, widths | dict(vectors))

    @property
    def width(self) -> int:
        """Words per row."""
        return self.place(self.floats[-1]).stop

    def place(self, name: str) -> slice:
        """The words of a column in a row."""
        names = self.integers + self.floats
        number = names.index(name)
        start = number + sum(self.widths.get(other, 1) - 1 for other in names[:number])
        return slice(start, start + self.widths.get(name, 1))

    def features(self) -> list[Feature]:
        """What is read; position and observation may be absent, as in foreign examples."""
        known = {f.POSITION: 0, f.OBSERVATION: 0.0, f.HISTORY_IDS: f.OOV}
        return [
            Feature(name, kind, known.get(name), self.widths.get(name, 0))
            for kind, names in ((int, self.integers), (float, self.floats))
            for name in names
        ]

    def words(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """(rows, width) int32; floats keep their bits."""
        count = len(columns[self.integers[0]])
        rows = np.empty((count, self.width), np.int32)
        for words, names in ((rows, self.integers), (rows.view(np.float32), self.floats)):
            for name in names:
                words[:, self.place(name)] = columns[name].reshape(count, -1)
        return rows


@dataclass(frozen=True)
class PackedRows:
    """Packed rows of one split, and their totals.

    Attributes:
        paths: TFRecords of blocks.
        layout: of a row.
        rows: in all.
        clicks, conversions: labels of 1.
        mass, root_mass: Σm and Σ√m over rows, m half the sum of the absolute weights
            of both pairs: what sampling is proportional to.
    """

    paths: tuple[str, ...]
    layout: Layout
    rows: int
    clicks: int
    conversions: int
    mass: float
    root_mass: float


def pack(paths: Sequence[str], layout: Layout, folder: str | Path, split: str) -> PackedRows:
    """Writes the rows of `paths` as blocks into `folder`, in their order.

    Args:
        paths: TFRecord shards that ImportanceEstimator wrote.
        layout: the columns to keep.
        folder: made if need be; some 4 · `layout.width` bytes per row.
        split: its name, for messages.

    Raises:
        TrainingError: there is no row, or a value is not a finite number.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(
            pool.map(
                lambda number: _pack_shard(paths[number], layout, f"{folder}/{split}-{number:05d}"),
                range(len(paths)),
            )
        )
    totals = np.sum([sums for _, sums in parts], axis=0) if parts else np.zeros(5)
    if not totals[0]:
        raise TrainingError(
            f"the {split} split holds no rows: expected some in {', '.join(paths) or 'no shard'}; "
            "log more requests, or change logs.splits"
        )
    rows, clicks, conversions = (int(total) for total in totals[:3])
    files = tuple(file for written, _ in parts for file in written)
    return PackedRows(files, layout, rows, clicks, conversions, *map(float, totals[3:]))


def _pack_shard(path: str, layout: Layout, stem: str) -> tuple[list[str], np.ndarray]:
    """The files of one shard, and its rows, clicks, conversions, mass and root mass."""
    files: list[str] = []
    sums, begun = np.zeros(5), 0
    blocks = iterate_columns([path], layout.features(), batch_size=BLOCK_ROWS * _FILE_BLOCKS)
    for columns in blocks:
        _check_finite(columns, layout, path, begun)
        rows = layout.words(columns)
        begun += len(rows)
        files.append(f"{stem}-{len(files):05d}.blocks")
        _write(rows, files[-1])
        sums += _sums(columns)
    return files, sums


def _write(rows: np.ndarray, path: str) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for start in range(0, len(rows), BLOCK_ROWS):
            writer.write(rows[start : start + BLOCK_ROWS].tobytes())


def _sums(columns: dict[str, np.ndarray]) -> np.ndarray:
    weights = np.stack([columns[name] for name in WEIGHT_COLUMNS]).astype(np.float64)
    mass = np.abs(weights).sum(axis=0) / 2
    clicks, conversions = columns[f.CLICK].sum(), columns[f.CONVERSION].sum()
    return np.array([len(mass), clicks, conversions, mass.sum(), np.sqrt(mass).sum()])


def _check_finite(columns: dict[str, np.ndarray], layout: Layout, path: str, begun: int) -> None:
    for name in layout.floats:
        finite = np.isfinite(columns[name])
        bad = np.flatnonzero(~(finite if finite.ndim == 1 else finite.all(axis=1)))
        if len(bad):
            value = columns[name][bad[0]]
            raise TrainingError(
                f"{name}={value[~np.isfinite(value)][0]} in row {begun + bad[0] + 1} of {path} and "
                f"{len(bad) - 1} more: expected a finite number; a weight of this kind comes from "
                "the estimators under importance, any other column from Transform"
            )
