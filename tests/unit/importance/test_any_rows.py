"""Every estimator judges a row alike, whichever rows it is handed with.

The weighing step fits on a sample and then asks shard by shard, in other
processes. What depends on the shard would make weights depend on how the log
happens to be cut.
"""

import importlib
import pickle
import pkgutil

import cloudpickle
import numpy as np
import pytest

import heft.importance
from heft.importance import ImportanceData, OutOfFoldProxy
from heft.importance.registry import create, names, parameters

for module in pkgutil.iter_modules(heft.importance.__path__):
    importlib.import_module(f"heft.importance.{module.name}")

ROWS = 480


def rich(rows: int, seed: int) -> ImportanceData:
    """A click log with every column that an estimator may ask for."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 5)).astype(np.float32)
    position = np.tile(np.arange(1, 5), rows // 4)
    attractive = 1 / (1 + np.exp(-1.5 * features[:, 0]))
    label = (rng.random(rows) < attractive / position**0.5).astype(np.int64)
    group = np.arange(rows, dtype=np.int64) // 4 + seed * rows
    delay = np.where(label == 1, rng.exponential(100.0, rows), np.nan)
    data = ImportanceData(
        features=features,
        label=label,
        group=group,
        position=position,
        propensity=np.full(rows, np.nan, np.float32),
        pair=rng.integers(0, 60, rows),
        observed=(1 / position**0.5).astype(np.float32),
        user=group // 5,
        timestamp=(group * 60_000).astype(np.int64),
        click_delay=np.where(label == 1, rng.exponential(20.0, rows), np.nan).astype(np.float32),
        delay=delay.astype(np.float32),
        elapsed=np.full(rows, 1_000.0, np.float32),
        sampling=np.where(label == 1, 1.0, 0.5).astype(np.float32),
        slice=rng.integers(0, 3, rows),
        protected=rng.integers(0, 2, rows),
        domain=(rng.random(rows) < 0.3).astype(np.int64),
        relevance=(0.4 * features[:, 0] + 0.1 * rng.normal(size=rows)).astype(np.float32),
        spoken=rng.random(rows).astype(np.float32),
        human=np.ones(rows, np.float32),
        randomised=rng.random(rows) < 0.5,
    )
    # Some visitors see short pages, so that a part is not like the whole.
    return data.take(np.flatnonzero((position <= 2) | (data.user % 3 != 1)))


@pytest.fixture(scope="module")
def log() -> tuple[ImportanceData, ImportanceData]:
    """What is fitted on, and clean samples of other requests."""
    return rich(ROWS, 0), rich(200, 7)


# Explains a bounded sample of the rows that it is handed, and says so.
SAMPLING = {"lime"}


@pytest.mark.parametrize("name", [name for name in names() if name not in SAMPLING])
def test_a_part_is_judged_as_it_is_in_the_whole(
    log: tuple[ImportanceData, ImportanceData], name: str
) -> None:
    data, reference = log
    offered = {
        "proxy": OutOfFoldProxy(folds=2, epochs=2),
        "reference": reference,
        "random_state": 3,
    }
    taken = {key: value for key, value in offered.items() if key in parameters(name)}
    fitted = create(name, **taken).fit(data)
    carried = pickle.loads(cloudpickle.dumps(fitted))
    rows = np.flatnonzero(data.user % 3 == 1)[::-1]  # whole visits, in another order
    part = data.take(rows)
    methods = [m for m in ("score", "weight", "propensity", "pairs") if hasattr(fitted, m)]
    assert methods
    for method in methods:
        whole = np.asarray(getattr(fitted, method)(data))
        assert len(whole) == len(data)
        assert np.isfinite(whole).all()
        found = getattr(carried, method)(part)
        np.testing.assert_allclose(found, whole[rows], rtol=1e-4, atol=1e-5, err_msg=method)
