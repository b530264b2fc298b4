"""Ensemble ranks against pandas' own, and random scores that know nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import (
    data_oob,  # noqa: F401
    knn_shapley,  # noqa: F401
    registry,
)
from heft.importance.base import ImportanceData
from heft.importance.ensemble import Ensemble
from heft.importance.random_scores import RandomScores
from heft.importance.registry import create

from .conftest import make_data


class FirstFeature:
    """The first feature, rounded so that there are ties."""

    def __init__(self, random_state: int = 0) -> None:
        pass

    def fit(self, data):
        return self

    def score(self, data):
        return np.round(data.features[:, 0], 1)


class NothingButNan(FirstFeature):
    """NaN."""

    def score(self, data):
        return np.full(len(data), np.nan)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    """Members of these tests alone."""
    monkeypatch.setitem(registry._REGISTRY, "test_first_feature", FirstFeature)
    monkeypatch.setitem(registry._REGISTRY, "test_nothing_but_nan", NothingButNan)


def with_slices(rows=2_000, seed=0):
    data, wrong = make_data(rows=rows, seed=seed, flipped=0.2)
    slices = np.random.default_rng(seed).choice([3, 5, 9], rows, p=[0.6, 0.39, 0.01])
    columns = {"group": data.group, "position": data.position, "slice": slices}
    return ImportanceData.of(data.features, data.label, **columns), wrong


def test_scores_are_mean_mid_ranks_within_label_and_slice():
    data, _ = with_slices()
    members = ("test_first_feature", "-random")
    found = Ensemble(members, random_state=4, slice_rows=50).fit(data).score(data)
    frame = pd.DataFrame({"label": data.label, "slice": data.slice})
    frame["a"] = FirstFeature().score(data)
    frame["b"] = -RandomScores(4).fit(data).score(data)
    # Slice 9 has some twenty rows: it is ranked within its label alone.
    within = frame.groupby(["label", "slice"])[["a", "b"]]
    ranks = (within.rank() - 0.5) / within.transform("count")
    by_label = frame.groupby("label")[["a", "b"]]
    wide = (by_label.rank() - 0.5) / by_label.transform("count")
    expected = np.where((data.slice == 9)[:, None], wide, ranks).mean(axis=1)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_row_has_one_score_in_any_shard_and_order():
    data, _ = with_slices()
    found = Ensemble(("test_first_feature", "random")).fit(data)
    whole = found.score(data)
    parts = np.array_split(np.random.default_rng(0).permutation(len(data)), 6)
    for part in parts:
        assert np.array_equal(found.score(data.take(part)), whole[part])


def test_unknown_slices_and_labels_have_a_rank():
    data, _ = with_slices()
    found = Ensemble(("test_first_feature",)).fit(data.take(data.label == 1))
    score = found.score(data)
    assert (score[data.label == 0] == 0.5).all()
    elsewhere = ImportanceData.of(data.features, data.label, slice=np.full(len(data), 77))
    ones = data.label == 1
    assert stats.spearmanr(found.score(elsewhere)[ones], data.features[ones, 0])[0] > 0.99


def test_members_together_find_turned_labels():
    data, wrong = make_data(rows=2_000, seed=3, flipped=0.2)
    found = Ensemble(("data_oob", "knn_shapley"), {"data_oob": {"models": 30}}).fit(data)
    assert found.estimators[0].models == 30
    assert roc_auc_score(wrong, -found.score(data)) > 0.85


def test_random_scores_are_even_and_know_nothing():
    data, wrong = make_data(rows=20_000, seed=5, flipped=0.2)
    score = RandomScores().fit(data).score(data)
    assert stats.kstest(score, "uniform").pvalue > 1e-3
    assert roc_auc_score(wrong, score) == pytest.approx(0.5, abs=0.02)
    other = create("random", random_state=1).fit(data).score(data)
    assert abs(np.corrcoef(score, other)[0, 1]) < 0.03
    order = np.random.default_rng(0).permutation(len(data))
    assert np.array_equal(RandomScores().fit(data).score(data.take(order)), score[order])
    turned = ImportanceData.of(
        data.features, 1 - data.label, group=data.group, pair=data.pair, position=data.position
    )
    assert np.array_equal(RandomScores().fit(data).score(turned), score)


def test_bad_input_is_named():
    data, _ = make_data(rows=80)
    with pytest.raises(ConfigError, match=r"members=\[\]: expected one or more, each once"):
        Ensemble(())
    with pytest.raises(ConfigError, match="expected one or more, each once"):
        Ensemble(("random", "-random"))
    with pytest.raises(ConfigError, match="Expected one of .*received: estimator='shapely'"):
        Ensemble(("shapely",))
    with pytest.raises(ConfigError, match="members hold 'ensemble' itself"):
        Ensemble(("ensemble",))
    with pytest.raises(ConfigError, match="'inverse_propensity' gives no score"):
        Ensemble(("inverse_propensity",))
    with pytest.raises(ConfigError, match="received: settings of 'data_oob'"):
        Ensemble(("random",), {"data_oob": {}})
    with pytest.raises(ConfigError, match="slice_rows=0: expected at least 1"):
        Ensemble(("random",), slice_rows=0)
    with pytest.raises(DataError, match="member 'test_nothing_but_nan' gave 80 scores that are"):
        Ensemble(("test_nothing_but_nan",)).fit(data)
    with pytest.raises(NotFittedError, match="Ensemble is not fitted"):
        Ensemble(("random",)).score(data)
    with pytest.raises(NotFittedError, match="RandomScores is not fitted"):
        RandomScores().score(data)
