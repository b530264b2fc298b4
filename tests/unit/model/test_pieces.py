"""Numbers in pieces: what the layer computes, and what a network gains by it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from heft import features as f
from heft.examples import write_columns
from heft.model.network import build_core
from heft.model.pieces import PiecewiseLinear
from heft.model.settings import ModelSettings
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, core_inputs, fit


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-9, 9, width=32), min_size=2, max_size=8), st.integers(1, 12))
def test_each_piece_says_how_far_a_number_has_come_along_it(values: list[float], k: int) -> None:
    numbers = np.array(values, np.float32).reshape(-1, 1)
    knots = np.linspace(-2.5, 2.5, k + 1)
    both = np.concatenate([numbers, -numbers], axis=1)
    layer = PiecewiseLinear(k)
    found = layer(both).numpy().reshape(len(numbers), 2, k) + layer.means()
    for column in range(2):
        for piece in range(k):
            want = np.interp(both[:, column], knots[piece : piece + 2], [0, 1])
            np.testing.assert_allclose(found[:, column, piece], want, atol=1e-4)


@pytest.mark.parametrize("k", [1, 7, 30])
def test_pieces_of_normal_numbers_are_centred(k: int) -> None:
    numbers = np.random.default_rng(0).normal(size=(200_000, 1)).astype(np.float32)
    assert np.abs(PiecewiseLinear(k)(numbers).numpy().mean(axis=0)).max() < 0.005


def test_a_network_finds_a_band_of_prices_that_only_pieces_can_bend_at(
    write_log: Callable[..., ClickLog], table: TextTable, tmp_path: Path
) -> None:
    def banded(rows: int, seed: int) -> ClickLog:
        """Two narrow bands of prices are liked, and nothing else matters."""
        log = write_log(rows, seed, biased=False)
        price = log.columns["price_z"]
        liked = (np.abs(price - 1.2) < 0.2) | (np.abs(price + 0.8) < 0.2)
        attractiveness = np.where(liked, 0.7, 0.1)
        click = (np.random.default_rng(seed).random(rows) < attractiveness).astype(np.int64)
        ones = np.ones(rows, np.float32)
        columns = log.columns | {f.CLICK: click, f.CONVERSION: 0 * click}
        for task, label in ((f.CTR, click), (f.CVR, 0 * click)):
            columns[f.positive_weight(task)] = label.astype(np.float32)
            columns[f.negative_weight(task)] = ones - label
        path = tmp_path / f"{seed}.gz"
        write_columns(columns, path)
        return ClickLog(columns, attractiveness, [str(path)])

    train, tune, judged = banded(12_000, 1), banded(2_000, 2), banded(4_000, 3)
    agreement = {}
    for pieces in (0, ModelSettings().numeric_pieces):
        asked = ModelSettings(numeric_pieces=pieces)
        found = fit(train.shards, tune.shards, table, tmp_path / str(pieces), asked)
        logit = found.core(core_inputs(table, judged), training=False).numpy()[:, 0]
        agreement[pieces] = spearmanr(logit, judged.attractiveness).statistic
    assert agreement[0] < 0.5
    assert agreement[ModelSettings().numeric_pieces] > 0.6


@pytest.mark.parametrize("pieces", [0, 5])
def test_pieces_widen_the_bodies_by_the_cosine_and_each_dense_feature(
    table: TextTable, pieces: int
) -> None:
    core = build_core(table, SIZES, ModelSettings(numeric_pieces=pieces))
    whole = 1 + 3 + 2 + len(SIZES.dense) + ModelSettings().categorical_width
    assert core.get_layer("click_0").kernel.shape[0] == whole + pieces * (1 + len(SIZES.dense))
