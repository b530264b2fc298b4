"""Samples of a task whose truth is known."""

import numpy as np
import pytest

from heft.importance import ImportanceData


def make_data(
    rows: int = 4_000, seed: int = 0, flipped: float = 0.0, **columns: np.ndarray
) -> tuple[ImportanceData, np.ndarray]:
    """A linear task; the second value marks the labels that were turned over."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 6)).astype(np.float32)
    logit = 2.5 * features[:, 0] - 1.5 * features[:, 1]
    label = (rng.random(rows) < 1 / (1 + np.exp(-2 * logit))).astype(np.int64)
    wrong = rng.random(rows) < flipped
    data = ImportanceData(
        features=features,
        label=np.where(wrong, 1 - label, label),
        group=columns.get("group", np.arange(rows) // 4),
        position=columns.get("position", np.tile([1, 2, 3, 4], rows // 4)),
        propensity=columns.get("propensity", np.full(rows, np.nan, np.float32)),
        pair=columns.get("pair", np.arange(rows) % 100),
    )
    return data, wrong


@pytest.fixture
def data() -> ImportanceData:
    return make_data()[0]
