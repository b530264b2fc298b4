"""Scores are out of fold, and find what they are for."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import (
    El2n,
    Estimator,
    ImportanceData,
    LabelQuality,
    OutOfFoldProxy,
    create,
    names,
)
from heft.importance.proxy import fold_of

from .conftest import make_data


def test_no_sample_is_judged_by_a_model_that_has_seen_it(data):
    """Turning over all labels of one fold leaves that fold's predictions as they were."""
    fold = fold_of(data.group, 3, 5)
    turned = np.where(fold == 1, 1 - data.label, data.label)
    other = ImportanceData(
        data.features, turned, data.group, data.position, data.propensity, data.pair
    )
    before = OutOfFoldProxy(folds=3, epochs=1, random_state=5).trace(data).final
    after = OutOfFoldProxy(folds=3, epochs=1, random_state=5).trace(other).final
    assert np.array_equal(before[fold == 1], after[fold == 1])
    assert np.abs(before[fold == 0] - after[fold == 0]).max() > 0.01


def test_rows_of_a_request_share_a_fold_and_folds_are_even():
    group = np.repeat(np.random.default_rng(0).integers(0, 2**62, 5_000), 10)
    fold = fold_of(group, 4)
    assert all(len(set(fold[i : i + 10])) == 1 for i in range(0, 1000, 10))
    assert np.bincount(fold) / len(fold) == pytest.approx(0.25, abs=0.02)


def test_label_quality_finds_labels_that_were_turned_over():
    data, wrong = make_data(rows=8_000, flipped=0.15)
    quality = LabelQuality(random_state=1).fit(data).score(data)
    assert quality.dtype == np.float32
    assert ((quality >= 0) & (quality <= 1)).all()
    assert roc_auc_score(wrong, -quality) > 0.85


def test_a_click_low_on_the_page_is_no_worse_a_click():
    """Examination is taken out: the same attractive item clicked at 1 and at 4."""
    data, _ = make_data(rows=8_000, seed=2)
    observed = np.array([1.0, 0.6, 0.3, 0.1])[data.position - 1]
    rng = np.random.default_rng(0)
    seen = (data.label * (rng.random(len(data)) < observed)).astype(int)
    biased = ImportanceData(
        data.features, seen, data.group, data.position, data.propensity, data.pair
    )
    quality = (
        LabelQuality().fit(biased.with_observed(observed)).score(biased.with_observed(observed))
    )
    clicked = seen == 1
    by_position = [quality[clicked & (data.position == p)].mean() for p in (1, 4)]
    assert by_position[1] == pytest.approx(by_position[0], abs=0.05)


def test_el2n_is_the_distance_of_the_early_prediction_from_the_label(data):
    proxy = OutOfFoldProxy(folds=2, epochs=2, random_state=3)
    score = El2n(proxy).fit(data).score(data)
    early = proxy.trace(data).early.astype(float)
    two_class = np.stack([1 - early, early], axis=1) - np.eye(2)[data.label]
    assert score == pytest.approx(np.linalg.norm(two_class, axis=1), abs=1e-6)


def test_the_same_seed_gives_the_same_scores(data):
    first, second = (El2n(random_state=9).fit(data).score(data) for _ in range(2))
    assert np.array_equal(first, second)


def test_every_registered_estimator_has_the_interface():
    assert {"inverse_propensity", "label_quality", "el2n"} <= set(names())
    assert isinstance(create("label_quality"), Estimator)
    assert isinstance(create("el2n", random_state=3), Estimator)


def test_an_unknown_estimator_or_setting_is_named():
    with pytest.raises(ConfigError, match="Expected one of .*el2n.*received: estimator='shapley'"):
        create("shapley")
    with pytest.raises(ConfigError, match="'el2n'.*temperature"):
        create("el2n", temperature=1)


@pytest.mark.parametrize("estimator", [El2n(), LabelQuality()])
def test_scoring_before_fit(estimator, data):
    with pytest.raises(NotFittedError, match="is not fitted"):
        estimator.score(data)


@pytest.mark.parametrize("value", [0, 1])
def test_constant_labels_are_refused(value):
    data, _ = make_data(rows=400)
    constant = ImportanceData(
        data.features, np.full(400, value), data.group, data.position, data.propensity, data.pair
    )
    with pytest.raises(DataError, match=f"all 400 labels are {value}: expected both"):
        El2n().fit(constant)


def test_bad_samples_are_refused():
    data, _ = make_data(rows=8)
    features = data.features.copy()
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="feature column 2 holds NaN"):
        ImportanceData(features, *_rest(data))
    with pytest.raises(DataError, match="label=2"):
        ImportanceData(data.features, np.full(8, 2), *_rest(data)[1:])
    with pytest.raises(DataError, match="features has 3 rows and label 8"):
        ImportanceData(data.features[:3], *_rest(data))


def _rest(data: ImportanceData) -> tuple[np.ndarray, ...]:
    return data.label, data.group, data.position, data.propensity, data.pair
