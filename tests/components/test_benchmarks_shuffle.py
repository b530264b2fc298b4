"""Bytes that are shuffled are counted where Beam and ingest shuffle them."""

import os
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

from benchmarks.shuffle import counted
from heft.logs.tables import Spill

ROWS, WIDTH = 2_000, 100


def _grouped(transform: beam.PTransform) -> int:
    blobs = [(number % 4, os.urandom(WIDTH)) for number in range(ROWS)]
    with counted() as moved, beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create(blobs, reshuffle=False) | transform | beam.Map(repr)
    return moved["elsewhere"]


def test_every_row_in_front_of_a_group_by_key_counts_and_a_combiner_moves_sums_alone() -> None:
    # Rows, and a few bytes of key, length and window for each.
    assert ROWS * WIDTH < _grouped(beam.GroupByKey()) < ROWS * (WIDTH + 40)
    assert 0 < _grouped(beam.combiners.Count.PerKey()) < 4 * 100


def test_rows_that_ingest_sends_through_files_count_as_they_are_written(tmp_path: Path) -> None:
    table = pa.table({"id": np.arange(ROWS), "noise": np.random.default_rng(7).random(ROWS)})
    with counted() as moved, Spill(str(tmp_path), buckets=3) as spill:
        slices = list(spill.slices("impressions", table, np.arange(ROWS, dtype=np.uint64)))
    assert len(slices) == 3
    assert moved["elsewhere"] == sum(file.stat().st_size for file in tmp_path.iterdir()) > 8 * ROWS
