"""The rows of a slice, gathered once for all of TFMA's metrics that Heft adds.

TFMA calls each metric's combiner for each row of each slice, which is where its
time goes. Here a row is packed into a few bytes once, before it is fanned out,
and one combiner strings them together for all metrics, models and outputs; what
a metric is follows from the strung rows at the end, exactly and not from bins.

A slice keeps at most `max_rows` rows: past that, whole requests, chosen by the
hash of their id and so the same ones on every worker.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis import constants
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from heft import features as f
from heft.errors import DataError
from heft.evaluation.metrics import FloatArray, IntArray

__all__ = ["GROUPS", "KEYS", "MAX_ROWS", "ROWS_KEY", "SliceRows", "row_computation"]

# Whole requests are dealt to this many groups, of which the jackknife leaves out one at a time.
GROUPS = 20
MAX_ROWS = 2_000_000
# Columns that are read beside labels and slices.
KEYS = (f.REQUEST_ID, f.IMPRESSION_ID, f.USER_ID)
ROWS_KEY = metric_types.MetricKey("_heft_rows")

_NOBODY = 0  # in place of a hash where there is no user

Column = tuple[str, str]


@dataclass(frozen=True)
class _Layout:
    """What is in a packed row: ids, then labels by output, then predictions.

    Attributes:
        outputs: label columns, by the name of the output.
        predictions: (model, output) of each prediction.
    """

    outputs: tuple[str, ...]
    predictions: tuple[Column, ...]

    @classmethod
    def of(cls, config: config_pb2.EvalConfig) -> "_Layout":
        specs = list(config.model_specs) or [config_pb2.ModelSpec()]
        outputs = tuple(sorted(specs[0].label_keys)) or ("",)
        models = ("",) if len(specs) == 1 else tuple(spec.name for spec in specs)
        return cls(outputs, tuple((model, output) for model in models for output in outputs))

    @property
    def packer(self) -> struct.Struct:
        return struct.Struct(f"<QQ{len(self.outputs) + len(self.predictions)}f")

    @property
    def dtype(self) -> np.dtype[Any]:
        floats = [(f"label/{output}", "<f4") for output in self.outputs]
        floats += [(f"prediction/{model}/{output}", "<f4") for model, output in self.predictions]
        return np.dtype([("request", "<u8"), ("user", "<u8"), *floats])


@dataclass(frozen=True)
class SliceRows:
    """The rows of one slice.

    Attributes:
        count: rows of the slice.
        packed: those that were kept, a structured array (rows,).
    """

    count: int
    packed: np.ndarray

    def label(self, output: str) -> FloatArray:
        """(rows,) in [0, 1]."""
        return self.packed[f"label/{output}"].astype(np.float64)

    def prediction(self, model: str, output: str) -> FloatArray:
        """(rows,) in [0, 1]."""
        return self.packed[f"prediction/{model}/{output}"].astype(np.float64)

    @cached_property
    def request(self) -> IntArray:
        """(rows,) the hash of the request."""
        return self.packed["request"]

    @cached_property
    def user(self) -> IntArray:
        """(rows,) the hash of the user."""
        return self.packed["user"]

    @property
    def known_users(self) -> np.ndarray:
        """(rows,) True where the user is known."""
        return self.user != _NOBODY


def row_computation(config: config_pb2.EvalConfig, max_rows: int) -> metric_types.MetricComputation:
    """The one computation that all metrics of an evaluation share; TFMA drops its copies."""
    layout = _Layout.of(config)
    return metric_types.MetricComputation(
        keys=[ROWS_KEY],
        preprocessors=[_PackRow(layout)],
        combiner=_StringRows(layout, max_rows),
    )


class _PackRow(metric_types.Preprocessor):
    """Labels, predictions and ids of one row as bytes."""

    def __init__(self, layout: _Layout) -> None:
        super().__init__(name="heft_pack_row")
        self._layout = layout

    def process(self, element: dict[str, Any]) -> Iterator[bytes]:
        """The one packed row of an example.

        Raises:
            DataError: a label or a prediction is missing.
        """
        features = element[constants.FEATURES_KEY]
        labels, answers = element[constants.LABELS_KEY], element[constants.PREDICTIONS_KEY]
        layout = self._layout
        # Of several models each has the same labels under its own name.
        first = layout.predictions[0][0]
        own = labels[first] if first else labels
        values = [_number(own, output) for output in layout.outputs]
        for model, output in layout.predictions:
            values.append(_number(answers[model] if model else answers, output))
        # A row of no page is a page of its own.
        request = _hash(features.get(f.REQUEST_ID)) or _hash(features.get(f.IMPRESSION_ID))
        ids = request, _hash(features.get(f.USER_ID))
        yield layout.packer.pack(*ids, *values)


@dataclass
class _Strung:
    """Rows of a slice so far. `below` is the hash past which requests are left out."""

    count: int
    below: int
    rows: bytearray


class _StringRows(beam.CombineFn):
    """Strings packed rows together."""

    def __init__(self, layout: _Layout, max_rows: int) -> None:
        self._layout = layout
        self._size = layout.packer.size
        self._max_rows = max_rows

    def create_accumulator(self) -> _Strung:
        return _Strung(0, 1 << 64, bytearray())

    def add_input(self, accumulator: _Strung, element: bytes) -> _Strung:
        return self.add_inputs(accumulator, [element])

    def add_inputs(self, accumulator: _Strung, elements: Iterable[bytes]) -> _Strung:
        for row in elements:
            accumulator.count += 1
            if accumulator.below >> 64 or int.from_bytes(row[:8], "little") < accumulator.below:
                accumulator.rows += row
        if len(accumulator.rows) > 2 * self._max_rows * self._size:
            self._thin(accumulator, accumulator.below)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[_Strung]) -> _Strung:
        merged = self.create_accumulator()
        below = merged.below
        for part in accumulators:
            merged.count += part.count
            merged.rows += part.rows
            below = min(below, part.below)
        if below < merged.below or len(merged.rows) > 2 * self._max_rows * self._size:
            self._thin(merged, below)
        return merged

    def extract_output(self, accumulator: _Strung) -> dict[metric_types.MetricKey, SliceRows]:
        if len(accumulator.rows) > self._max_rows * self._size:
            self._thin(accumulator, accumulator.below)
        packed = np.frombuffer(bytes(accumulator.rows), self._layout.dtype)
        return {ROWS_KEY: SliceRows(accumulator.count, packed)}

    def _thin(self, accumulator: _Strung, below: int) -> None:
        """Leaves the requests with the lowest hashes, as many as `max_rows` has room for."""
        packed = np.frombuffer(bytes(accumulator.rows), self._layout.dtype)
        request = packed["request"]
        if below < 1 << 64:
            packed = packed[request < np.uint64(below)]
            request = packed["request"]
        if len(packed) > self._max_rows:
            below = int(np.partition(request, self._max_rows)[self._max_rows])
            kept = request < np.uint64(below)
            if not kept.any():  # one page larger than all the room there is
                below = int(request.min()) + 1
                kept = request == request.min()
            packed = packed[kept]
        accumulator.below, accumulator.rows = below, bytearray(packed.tobytes())


def _number(values: Any, output: str) -> float:
    value = values[output] if output else values
    if value is None or np.size(value) != 1:
        raise DataError(
            f"output {output!r} has {0 if value is None else np.size(value)} values in a row: "
            "expected one label and one prediction"
        )
    return float(value[0]) if np.ndim(value) else float(value)


def _hash(value: Any) -> int:
    """64 bits of an id, which may be absent or empty."""
    if value is None or not len(value) or not value[0]:
        return _NOBODY
    key = value[0] if isinstance(value[0], bytes) else str(value[0]).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") or 1
