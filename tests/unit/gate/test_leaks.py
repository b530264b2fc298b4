"""A column that knows the label is found; a column of many values knows nothing."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heft import features as f
from heft.examples import Feature, write_columns
from heft.gate.anomaly import HIDDEN
from heft.gate.leaks import column_auc, leaks, measure_columns
from heft.gate.settings import LeakSettings

from .spans import Columns, impressions, texts

SETTINGS = LeakSettings()
CLICKS = np.random.default_rng(0).random(4_000) < 0.1


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.floats(-3, 3))
def test_the_auc_of_a_number_is_at_least_that_of_scikit_learn(seed: int, effect: float) -> None:
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(effect * CLICKS, 1), 1)  # with ties
    auc = roc_auc_score(CLICKS, values)
    found = column_auc(values, CLICKS)
    assert found >= max(auc, 1 - auc) - 1e-12
    # Bins say no more of what rises than ranks do.
    assert found == pytest.approx(max(auc, 1 - auc), abs=0.05)


@pytest.mark.parametrize(
    "values",
    [
        np.where(CLICKS, 7.0, 1.0),
        np.where(CLICKS, -7.0, np.nan),
        np.where(CLICKS, np.nan, np.arange(4_000.0)),  # written where nothing was clicked
        np.where(CLICKS, 5.0, np.where(np.arange(4_000) % 2, 2.0, 9.0)),  # in the middle
        np.where(CLICKS, 7, 1),
        texts(np.where(CLICKS, "opened", "closed")),
    ],
    ids=["high", "there", "absent", "between", "whole", "text"],
)
def test_what_was_written_after_the_click_is_found(values: np.ndarray) -> None:
    assert column_auc(values, CLICKS) > 0.999


def test_a_value_for_each_row_knows_nothing() -> None:
    assert column_auc(texts(range(4_000)), CLICKS) == 0.5
    few = texts(np.random.default_rng(1).integers(0, 2_000, 4_000))
    assert column_auc(few, CLICKS) < 0.56


def _shards(folder: Path, columns: Columns) -> list[str]:
    write_columns(columns, folder / "a.gz")
    return [str(folder / "a.gz")]


def test_the_closest_columns_come_first_and_only_a_leak_is_an_anomaly(tmp_path: Path) -> None:
    columns = impressions(4_000, 1)
    clicked = columns[f.CLICK] == 1
    dwell = np.where(clicked, np.random.default_rng(0).exponential(30, 4_000), np.nan)
    columns["dwell"] = dwell.astype(np.float32)
    seen = [Feature(f.PRICE, float), Feature("dwell", float), Feature(f.CATEGORY, bytes, b"")]
    known = measure_columns(_shards(tmp_path, columns), 4_000, seen, SETTINGS)
    assert {one.feature for one in known} == {f.PRICE, "dwell", f.CATEGORY}
    assert [one.feature for one in known[:2]] == ["dwell", "dwell"]
    assert all(one.auc < 0.7 and not one.examples for one in known if one.feature != "dwell")
    found = leaks(known, SETTINGS)
    # Who buys has clicked: the column tells a conversion too, and less well.
    assert [(one.feature, one.kind) for one in found] == [("dwell", "label leak")]
    assert "AUC of clicks" in found[0].expected and found[0].rows == 4_000
    assert len(found[0].examples) == 3


def test_few_positives_prove_nothing(tmp_path: Path) -> None:
    columns = impressions(400, 1)
    columns[f.CLICK][:] = 0
    columns[f.CONVERSION][:] = 0
    columns[f.CLICK][:29] = 1
    columns["told"] = columns[f.CLICK].astype(np.float32)
    seen = [Feature("told", float)]
    shards = _shards(tmp_path, columns)
    assert measure_columns(shards, 400, seen, SETTINGS) == []
    [one] = measure_columns(shards, 400, seen, LeakSettings(minimum_positives=29))
    assert one.auc == 1.0 and one.positives == 29


def test_a_number_of_a_vector_is_named(tmp_path: Path) -> None:
    columns = impressions(2_000, 1)
    image = np.random.default_rng(0).normal(size=(2_000, 6)).astype(np.float32)
    image[:, 4] += 20 * columns[f.CLICK]
    image[5] = np.nan  # a row without one
    columns["image"] = image
    seen = [Feature("image", float, width=6)]
    known = measure_columns(_shards(tmp_path, columns), 2_000, seen, SETTINGS)
    assert known[0].feature == "image[4]"
    by_hand = np.delete(image[:, 4], 5), np.delete(columns[f.CLICK], 5)
    assert known[0].auc == pytest.approx(roc_auc_score(by_hand[1], by_hand[0]), abs=1e-3)


def test_values_of_a_column_of_persons_are_not_shown(tmp_path: Path) -> None:
    columns = impressions(2_000, 1)
    columns["who"] = texts(np.where(columns[f.CLICK] == 1, "ann@x.org", "nobody"))
    seen = [Feature("who", bytes, b"")]
    shards = _shards(tmp_path, columns)
    [shown] = leaks(measure_columns(shards, 2_000, seen, SETTINGS), SETTINGS)
    assert "<email>" in shown.examples
    [hidden] = leaks(measure_columns(shards, 2_000, seen, SETTINGS, pii=("who",)), SETTINGS)
    assert hidden.examples == (HIDDEN,)


def test_more_rows_than_are_asked_for_are_thinned_out_evenly(tmp_path: Path) -> None:
    columns = impressions(3_000, 1)
    write_columns({n: x[:1_000] for n, x in columns.items()}, tmp_path / "a.gz")
    write_columns({n: x[1_000:] for n, x in columns.items()}, tmp_path / "b.gz")
    shards = [str(tmp_path / name) for name in ("a.gz", "b.gz")]
    few = LeakSettings(rows=700, minimum_positives=2)
    [one, _] = measure_columns(shards, 3_000, [Feature(f.PRICE, float)], few)
    assert one.rows == 600
    assert measure_columns([], 0, [Feature(f.PRICE, float)], few) == []
