"""What the benchmarks of transfer and continual training make of a click log."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.importance.clicks import ClickLog
from benchmarks.model import continual, rows, transfer
from heft import features as f
from heft.importance import ImportanceData
from tests.unit.model.conftest import random_table

PAIRS, ROWS = 40, 300


@pytest.fixture
def log() -> ClickLog:
    rng = np.random.default_rng(0)
    pair = rng.integers(0, PAIRS, ROWS)
    click = (rng.random(ROWS) < 0.4).astype(np.int64)
    bought = (click == 1) & (rng.random(ROWS) < 0.5)
    columns: dict[str, Any] = {
        "group": np.arange(ROWS) // 10,
        "position": np.arange(ROWS) % 10 + 1,
        "pair": pair,
        "timestamp": np.sort(rng.integers(0, 86_400_000, ROWS)),
        "click_delay": np.where(click == 1, 5.0, np.nan).astype(np.float32),
        "delay": np.where(bought, rng.exponential(20_000, ROWS), np.nan).astype(np.float32),
        "elapsed": np.full(ROWS, 1e6, np.float32),
    }
    texts = np.stack([rng.integers(0, 20, PAIRS), rng.integers(0, 50, PAIRS)], axis=1)
    return ClickLog(
        pair_features=rng.normal(size=(PAIRS, 3)).astype(np.float32),
        pair_texts=texts,
        pair_dense=rng.normal(size=(PAIRS, 7)),
        pair_values={f.BRAND: np.array(["", "acme", "zeta", "rare"])[np.arange(PAIRS) % 4]},
        table=random_table(20, 50),
        pair_of=pair,
        data=ImportanceData.of(columns["position"][:, None], click, **columns),
        harvest=ImportanceData.of(np.zeros((1, 1)), np.zeros(1)),
        truth=pd.DataFrame({"row": np.arange(ROWS)}),
        test_pairs=np.arange(5),
        test_grade=np.zeros(5),
        test_query=np.zeros(5),
    )


def test_a_share_of_a_log_is_whole_pages(log: ClickLog) -> None:
    chosen = transfer._pages(log.data, 0.1, seed=3)
    assert chosen.sum() == 30
    assert set(log.data.group[chosen]).isdisjoint(log.data.group[~chosen])
    some = rows.part(log, chosen)
    np.testing.assert_array_equal(some.truth["row"], np.flatnonzero(chosen))
    np.testing.assert_array_equal(some.data.label, log.data.label[chosen])
    assert not np.array_equal(chosen, transfer._pages(log.data, 0.1, seed=4))


def test_texts_of_two_shops_keep_their_vectors_in_one_table(log: ClickLog) -> None:
    other = random_table(4, 6)
    source = replace(log, table=replace(other, queries=-other.queries, titles=-other.titles))
    together = transfer._in_one_table(source, log)
    for side, vectors, before in (
        (0, together.table.queries, log.table.queries),
        (1, together.table.titles, log.table.titles),
    ):
        found = vectors[together.pair_texts[:, side]]
        np.testing.assert_array_equal(found, before[log.pair_texts[:, side]])
    # What the source's ids point to has not moved, and its projections are kept.
    np.testing.assert_array_equal(together.table.titles[:6], source.table.titles)
    assert together.table.reduction is source.table.reduction


def test_a_day_knows_no_conversion_of_the_days_after(log: ClickLog) -> None:
    day = continual._as_known_then(log)
    end = log.data.timestamp.max()
    happens = log.data.timestamp + 1000 * (log.data.click_delay + log.data.delay)
    np.testing.assert_array_equal(np.isfinite(day.data.delay), happens <= end)
    assert 0 < np.isfinite(day.data.delay).sum() < np.isfinite(log.data.delay).sum()
    assert (day.data.elapsed >= 0).all() and day.data.elapsed.max() <= 86_400


def test_vocabularies_are_those_of_transform() -> None:
    values = np.array(["b"] * 7 + ["a"] * 9 + ["rare"] * 4 + [""] * 20)
    vocabulary = continual._vocabulary(values)
    assert vocabulary == ("a", "b")
    unknown = len(vocabulary)
    ids = continual._ids(np.array(["b", "", "rare", "a", "new"]), vocabulary)
    np.testing.assert_array_equal(ids, [1, unknown, unknown, 0, unknown])
