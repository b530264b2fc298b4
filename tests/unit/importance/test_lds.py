"""The linear datamodeling score against another library, and where its answer is known."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.importance.lds import evaluate, margins, rank_correlation
from benchmarks.importance.lds_tasks import planted, shop


def test_the_correlation_is_that_of_scipy_column_by_column():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 9, (40, 6)), rng.normal(size=(40, 6))
    left[:, 5] = 3
    found = rank_correlation(left, right)
    expected = [spearmanr(left[:, k], right[:, k]).statistic for k in range(5)]
    assert found[:5] == pytest.approx(expected)
    assert found[5] == 0


def test_influence_foretells_retraining_and_chance_does_not():
    data, targets = planted(rows=2_000, targets=40, seed=1)
    found = evaluate(data, targets, subsets=60, seed=1)
    assert found["influence"]["lds"] > 0.8
    assert found["influence"]["lds"] > found["gradient_dot"]["lds"] > found["random"]["lds"]
    assert abs(found["random"]["lds"]) < 0.15
    for figures in found.values():
        low, high = figures["interval"]
        assert -1 <= low < high <= 1


def test_targets_lie_in_requests_that_training_has_not_seen(monkeypatch, tmp_path):
    """Without Home Depot's files the built-in shop takes their place."""
    monkeypatch.setenv("HEFT_DATA", str(tmp_path))
    name, data, targets = shop(rows=300, targets=60, seed=2)
    assert name == "builtin"
    assert len(data) == 300
    assert 40 <= len(targets) <= 60
    assert not set(data.group) & set(targets.group)
    assert 0.02 < data.label.mean() < 0.6
    assert ((data.observed > 0) & (data.observed <= 1)).all()
    assert np.isfinite(margins(data, targets)).all()
