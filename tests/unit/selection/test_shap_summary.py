"""SHAP means and weights by slice find what was planted, and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from heft import features as f
from heft.model.network import InputSizes
from heft.selection.rows import SampledRows
from heft.selection.shap_summary import ShapSummary, summarise_shap
from heft.selection.weight_slices import WeightSlices, weigh_slices
from tests.unit.model.conftest import random_table

SIZES = InputSizes({"brand_id": 4}, ("price_z",))
TABLE = random_table(20, 30)


@pytest.fixture(scope="module")
def sampled() -> SampledRows:
    """People like what is cheap and of brand 2, and look less at what stands low."""
    rng = np.random.default_rng(0)
    n = 6_000
    dense = {name: rng.normal(size=n).astype(np.float32) for name in SIZES.dense}
    brand, position = rng.integers(0, 4, n), rng.integers(1, 6, n)
    attractive = 1 / (1 + np.exp(2 * dense["price_z"] - 1.5 * (brand == 2)))
    click = (rng.random(n) < attractive / position).astype(np.int64)
    columns = {
        **dense,
        "brand_id": brand,
        f.POSITION: position,
        f.CLICK: click,
        f.QUERY_ID: rng.integers(-1, 20, n),
        f.TITLE_ID: rng.integers(0, 30, n),
        f.positive_weight(f.CTR): (click * position).astype(np.float32),
        f.negative_weight(f.CTR): (1.0 - click * position).astype(np.float32),
    }
    return SampledRows(columns, n)


def test_planted_features_come_first_and_point_the_right_way(
    sampled: SampledRows, tmp_path: Path
) -> None:
    found = summarise_shap(sampled, SIZES, TABLE)
    assert found is not None
    names = [x.name for x in found.features]
    assert names[:2] == ["price_z", "brand_id"]
    by_name = {x.name: x for x in found.features}
    assert by_name["price_z"].direction < -0.9
    assert by_name["brand_id"].direction is None
    # What has nothing to do with clicks has next to nothing.
    assert by_name["cosine"].mean < 0.4 * by_name["brand_id"].mean
    assert {"title_component_0", "product_component_0"} <= set(names)
    found.save(str(tmp_path))
    assert ShapSummary.load(str(tmp_path)) == found
    assert ShapSummary.load(str(tmp_path / "nowhere")) is None


def test_without_clicks_there_is_nothing_to_explain(sampled: SampledRows) -> None:
    none = sampled.columns | {f.positive_weight(f.CTR): np.zeros(6_000, np.float32)}
    assert summarise_shap(SampledRows(none, 6_000), SIZES, TABLE) is None


def test_weights_by_slice_are_those_of_its_rows(sampled: SampledRows, tmp_path: Path) -> None:
    found = weigh_slices(sampled, ["brand"], {"brand": ["a", "b", "c"]})
    columns = sampled.columns
    mass = np.abs(columns[f.positive_weight(f.CTR)]) + np.abs(columns[f.negative_weight(f.CTR)])
    by_name = {(x.column, x.value): x for x in found.slices}
    assert {value for column, value in by_name if column == "brand"} == {"a", "b", "c", "other"}
    for (column, value), name in (((f.POSITION, "5"), "5"), (("brand", "b"), "1")):
        own = mass[columns[f.POSITION if column == f.POSITION else "brand_id"] == int(name)]
        part = by_name[column, value]
        assert part.rows == len(own)
        assert part.mean == pytest.approx(own.mean() / mass.mean(), abs=1e-3)
        assert part.quantiles == pytest.approx(np.quantile(own, [0.1, 0.5, 0.9]), abs=1e-3)
        assert part.ess == pytest.approx(own.sum() ** 2 / (own**2).sum() / len(own), abs=1e-3)
    # Deeper clicks count for more.
    assert by_name[f.POSITION, "1"].mean < by_name[f.POSITION, "2"].mean
    assert by_name[f.POSITION, "2"].mean < by_name[f.POSITION, "5"].mean
    found.save(str(tmp_path))
    assert WeightSlices.load(str(tmp_path)) == found
