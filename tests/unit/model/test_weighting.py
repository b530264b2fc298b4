"""How weight pairs enter training: each mode against NumPy, drawing against what it must equal."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from heft import features as f
from heft.examples import write_columns
from heft.model.alias import alias_draws, alias_table
from heft.model.inputs import training_batches
from heft.model.losses import PairLoss
from heft.model.network import build_core, build_training_model
from heft.model.packing import WEIGHT_COLUMNS, PackedRows
from heft.model.settings import ModelSettings
from heft.model.weighting import Weighting
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, click_log, packed
from tests.unit.model.test_losses import reference_losses

ROWS = 400


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    """Uneven weights; some rows weigh nothing, and `price_z` numbers the rows."""
    columns = click_log(ROWS, 11).columns
    rng = np.random.default_rng(0)
    row_weight = rng.gamma(0.5, 2.0, ROWS).astype(np.float32)
    row_weight[::10] = 0.0
    for name in WEIGHT_COLUMNS:
        columns[name] = columns[name] * row_weight
    columns["price_z"] = np.arange(ROWS, dtype=np.float32)
    return columns


@pytest.fixture(scope="module")
def rows(columns: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> PackedRows:
    folder = tmp_path_factory.mktemp("rows")
    write_columns(columns, folder / "a.gz")
    return packed([str(folder / "a.gz")], folder)


def _epochs(rows: PackedRows, mode: str, epochs: range, batch_size: int = ROWS) -> tf.data.Dataset:
    weighting = Weighting(mode, rows, curriculum_epochs=2.0)
    return training_batches(rows, SIZES, weighting, batch_size=batch_size, seed=5, epochs=epochs)


def _reference_pairs(columns: dict[str, np.ndarray], mode: str, epoch: float) -> np.ndarray:
    """(rows, 4) what a row brings each time it is taken, in float64."""
    pairs = np.stack([columns[name] for name in WEIGHT_COLUMNS], axis=1).astype(np.float64)
    click, conversion = columns[f.CLICK], columns[f.CONVERSION]
    plain = np.stack([click, 1 - click, conversion, 1 - conversion], axis=1)
    mass = np.abs(pairs).sum(axis=1, keepdims=True) / 2
    if mode == "none":
        return plain
    if mode in ("sampling", "both"):
        often = mass if mode == "sampling" else np.sqrt(mass)
        return np.divide(pairs, often / often.mean(), out=0 * pairs, where=mass > 0)
    if mode == "curriculum":
        share = min(epoch / 2.0, 1.0)
        return share * pairs + (1 - share) * plain
    if mode == "formula_4_2":
        out = np.zeros_like(pairs)
        for task in (slice(0, 2), slice(2, 4)):
            m = np.abs(pairs[:, task]).sum(axis=1, keepdims=True)
            w, share = (
                m / (1 + m),
                np.divide(pairs[:, task], m, out=0 * pairs[:, task], where=m > 0),
            )
            out[:, task] = share * np.hstack([w, 1 - w])
        return out
    return pairs


@pytest.mark.parametrize("architecture", ["esmm", "shared_bottom", "mmoe", "ple"])
@pytest.mark.parametrize("body", ["mlp", "dcn_v2"])
@pytest.mark.parametrize("mode", ["none", "loss", "sampling", "both", "curriculum", "formula_4_2"])
def test_the_loss_of_a_batch_is_the_references_for_each_architecture_and_mode(
    rows: PackedRows, columns: dict[str, np.ndarray], table: TextTable, architecture: str,
    body: str, mode: str,
) -> None:  # fmt: skip
    settings = ModelSettings(architecture=architecture, body=body, hidden=(8, 4), experts=2)
    model = build_training_model(table, build_core(table, SIZES, settings), settings)
    [*_, (inputs, targets)] = _epochs(rows, mode, range(1, 2), batch_size=100)
    logits = model(inputs, training=False).numpy()
    assert logits.shape == (100, 2)
    taken = inputs["dense"].numpy()[:, -1].astype(int)
    # The last of four batches of the second epoch: 1.75 epochs are behind.
    pairs = _reference_pairs(columns, mode, 1.75)[taken]
    want = reference_losses(pairs, logits, 1.0)
    got = PairLoss().call(targets, tf.constant(logits)).numpy()
    scale = 1 + np.abs(pairs).sum(axis=1) * (1 + np.abs(logits).max())
    assert (np.abs(got - want) / scale).max() < 1e-6


@pytest.mark.parametrize("mode", ["sampling", "both"])
def test_what_is_drawn_is_right_on_average_and_less_often_divided_by_more(
    rows: PackedRows, columns: dict[str, np.ndarray], mode: str
) -> None:
    epochs = 300
    seen, brought = np.zeros((epochs, ROWS)), np.zeros((epochs, ROWS))
    for epoch, (inputs, targets) in enumerate(_epochs(rows, mode, range(epochs))):
        taken = inputs["dense"].numpy()[:, -1].astype(int)
        assert len(taken) == ROWS
        seen[epoch] = np.bincount(taken, minlength=ROWS)
        brought[epoch] = np.bincount(taken, targets.numpy()[:, 0], minlength=ROWS)
    want = columns[WEIGHT_COLUMNS[0]].astype(np.float64)
    mass = np.abs(np.stack([columns[name] for name in WEIGHT_COLUMNS])).sum(axis=0) / 2
    often = mass ** {"sampling": 1.0, "both": 0.5}[mode]
    expected = often / often.mean()
    assert (seen[:, mass == 0] == 0).all()
    deviation = np.sqrt(np.maximum(expected, 1e-9) / epochs)
    common = expected * epochs > 30  # where a sum of draws is about normal
    assert common.mean() > 0.5
    assert np.abs((seen.mean(axis=0) - expected) / deviation)[common].max() < 5
    told = common & (want > 0)
    error = (brought.mean(axis=0) - want)[told] / (brought.std(axis=0)[told] / np.sqrt(epochs))
    assert np.abs(error).max() < 5
    total = brought.sum(axis=1)
    assert abs(total.mean() - want.sum()) < 4 * total.std() / np.sqrt(epochs)


def test_drawing_in_proportion_to_the_weights_evens_out_what_a_row_brings(
    rows: PackedRows,
) -> None:
    def spread(mode: str) -> float:
        [(_, targets)] = _epochs(rows, mode, range(1))
        mass = np.abs(targets.numpy()[:, :4]).sum(axis=1)
        return float(mass.std() / mass.mean())

    assert spread("sampling") < 0.01 < spread("both") < spread("loss")


@given(
    hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(0, 1e6)).filter(
        lambda w: w.sum() > 0
    )
)
def test_an_alias_table_holds_the_probabilities_it_was_made_from(weights: np.ndarray) -> None:
    threshold, alias = alias_table(weights)
    n = len(weights)
    chance = np.bincount(np.arange(n), threshold, n) + np.bincount(alias, 1 - threshold, n)
    np.testing.assert_allclose(chance / n, weights / weights.sum(), atol=1e-12)


def test_alias_draws_follow_the_seed_and_the_weights() -> None:
    weights = np.array([0.0, 1.0, 2.0, 7.0])
    drawn = alias_draws(weights, 200_000, seed=3)
    assert drawn.tolist() == alias_draws(weights, 200_000, seed=3).tolist()
    assert drawn.tolist() != alias_draws(weights, 200_000, seed=4).tolist()
    share = np.bincount(drawn, minlength=4) / 200_000
    assert share[0] == 0
    np.testing.assert_allclose(share, weights / 10, atol=0.005)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [1.0, np.nan], [np.inf]])
def test_weights_that_cannot_be_drawn_from_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="expected finite ones"):
        alias_table(np.array(weights))
