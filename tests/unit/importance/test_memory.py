"""How much memory weighing takes does not depend on how many rows there are."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from heft.examples import write_columns
from heft.importance import ImportanceSettings
from tests.unit.importance.test_estimate import TABLE, Weighed, _split, _weigh

ROWS = 10_000
SETTINGS = ImportanceSettings(
    debias="none", quality={}, value={"el2n": 0.5}, fit_rows=2_000, folds=2, epochs=1, samples=5
)


@pytest.mark.slow
def test_four_times_the_shards_take_the_memory_of_one(tmp_path: Path) -> None:
    shard = _split(ROWS, 0)
    text = str(tmp_path / "table")
    TABLE.save(text)
    tune = tmp_path / "tune"
    write_columns({name: values[:500] for name, values in shard.items()}, tune / "shard-0.gz")
    peaks = []
    for shards in (2, 2, 8):  # the first one warms up
        folder = tmp_path / f"{len(peaks)}"
        for k in range(shards):
            own = shard | {"request_key": shard["request_key"] + k * ROWS}
            write_columns(own, folder / "in" / f"shard-{k:02d}.gz")
        splits = {"train": str(folder / "in"), "tune": str(tune), "table": text}
        tracemalloc.start()
        weighed: Weighed = _weigh(splits, folder / "out", SETTINGS)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert weighed.summary["tasks"]["ctr"]["rows"] == shards * ROWS
        assert weighed.summary["fit"]["rows"] <= SETTINGS.fit_rows
    row = sum(np.asarray(values).dtype.itemsize for values in shard.values())
    # Keeping the columns of six further shards would show.
    assert peaks[2] - peaks[1] < 0.3 * 6 * ROWS * row, peaks
