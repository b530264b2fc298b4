"""Negatives that ingest sampled down count for those that it left out."""

import numpy as np
import pytest

from heft import features as f
from heft.importance.negative_sampling import NegativeSampling
from heft.importance.rows import importance_data
from heft.importance.settings import ImportanceSettings
from tests.unit.model.rows import SETTINGS as TRANSFORM
from tests.unit.model.rows import analysed, schema, shop_graph, shop_rows, transformed

ROWS = 400


def _columns(sampling: np.ndarray | None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    click = (rng.random(ROWS) < 0.2).astype(np.int64)
    columns = {
        f.CLICK: click, f.CONVERSION: click * (rng.random(ROWS) < 0.3),
        f.POSITION: rng.integers(1, 9, ROWS), f.REQUEST_KEY: np.arange(ROWS) // 4,
        f.QUERY_ID: np.arange(ROWS) % 7, f.TITLE_ID: np.arange(ROWS) % 11,
    }  # fmt: skip
    return columns if sampling is None else columns | {f.SAMPLING: sampling}


@pytest.mark.parametrize("task", f.TASKS)
def test_the_column_wins_over_the_settings_and_weighs_negatives(task: str) -> None:
    click = _columns(None)[f.CLICK]
    sampling = np.where(click == 1, 1.0, 0.25).astype(np.float32)
    settings = ImportanceSettings(corrections={"negative_sampling": {}}, sampling_rate=0.5)
    data = importance_data(_columns(sampling), np.zeros((ROWS, 1)), task, settings)
    weight = NegativeSampling().fit(data).weight(data)
    assert weight.tolist() == np.where(click == 1, 1.0, 4.0).tolist()
    without = importance_data(_columns(None), np.zeros((ROWS, 1)), task, settings)
    assert set(NegativeSampling().fit(without).weight(without).tolist()) == {1.0, 2.0}


def test_transform_hands_the_column_on_and_only_where_it_is_logged() -> None:
    sampled = schema()
    sampled.feature.add(name=f.SAMPLING, type=3).value_count.max = 1
    rows = [row | {f.SAMPLING: 0.25 if k % 3 else None} for k, row in enumerate(shop_rows())]
    graph = analysed(rows, sampled, TRANSFORM)
    assert f.SAMPLING in graph.transformed_feature_spec()
    out = transformed(rows[:6], graph)
    assert np.asarray(out[f.SAMPLING]).tolist() == [1.0, 0.25, 0.25, 1.0, 0.25, 0.25]
    assert f.SAMPLING not in shop_graph().transformed_feature_spec()
