"""LIME's local models: against a plain regression, and bounded."""

import numpy as np
import pytest

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Estimator, ImportanceData
from heft.importance.fold_trees import first_rows
from heft.importance.lime_explanation import LimeExplanation

from .conftest import make_data

SMALL = {"folds": 2, "trees": 30, "leaves": 6, "points": 300}


@pytest.fixture(scope="module")
def samples() -> ImportanceData:
    return make_data(rows=3_000, seed=6)[0]


@pytest.fixture(scope="module")
def fitted(samples: ImportanceData) -> LimeExplanation:
    return LimeExplanation(**SMALL, max_rows=20).fit(samples)


def test_slopes_agree_with_a_weighted_regression_by_hand(
    samples: ImportanceData, fitted: LimeExplanation
) -> None:
    """Fresh points around a sample, weighted by nearness, least squares in the open."""
    rows = np.arange(0, 3_000, 500)
    slopes, fit = fitted.explain(samples, rows)
    rng = np.random.default_rng(0)
    spread = samples.features.std(axis=0)
    for row, got, quality in zip(rows, slopes, fit, strict=True):
        steps = rng.normal(size=(20_000, 6))
        x = samples.features[row]
        said = fitted.trees.raw(x + steps * spread, int(fitted.trees.fold(samples)[row]))
        near = np.exp(-0.5 * (steps**2).sum(axis=1) / (0.75**2 * 6))
        design = np.column_stack([np.ones(len(steps)), steps]) * np.sqrt(near)[:, None]
        want = np.linalg.lstsq(design, said * np.sqrt(near), rcond=None)[0][1:]
        assert got == pytest.approx(want, abs=0.35)
        assert 0 < quality <= 1


def test_the_features_that_matter_are_named_with_their_sign(
    samples: ImportanceData, fitted: LimeExplanation
) -> None:
    middle = np.argsort(np.abs(samples.features[:, :2]).sum(axis=1))[:5]
    slopes, _ = fitted.explain(samples, middle)
    assert (slopes[:, 0] > 0).all()
    assert (slopes[:, 1] < 0).all()
    assert np.abs(slopes[:, :2]).min() > 3 * np.abs(slopes[:, 2:]).mean()


def test_rows_beyond_the_bound_get_the_median(
    samples: ImportanceData, fitted: LimeExplanation
) -> None:
    score = fitted.score(samples)
    rows = first_rows(samples, 20)
    slopes, fit = fitted.explain(samples, rows)
    mass = np.maximum(fit, 0) * np.abs(slopes).sum(axis=1)
    assert score[rows] == pytest.approx(mass, rel=1e-5)
    others = np.setdiff1d(np.arange(len(samples)), rows)
    assert score[others] == pytest.approx(np.median(mass), rel=1e-5)
    assert score.dtype == np.float32
    assert fitted.score(samples.take(others[:0])).shape == (0,)


def test_a_sample_is_explained_alike_in_any_company(
    samples: ImportanceData, fitted: LimeExplanation
) -> None:
    first, _ = fitted.explain(samples, np.array([5, 9]))
    second, _ = fitted.explain(samples.take(np.array([9, 5])), np.array([1, 0]))
    assert np.array_equal(first, second)
    order = np.random.default_rng(2).permutation(len(samples))
    np.testing.assert_array_equal(fitted.score(samples.take(order)), fitted.score(samples)[order])


def test_bad_input(samples: ImportanceData, fitted: LimeExplanation) -> None:
    assert isinstance(LimeExplanation(), Estimator)
    with pytest.raises(NotFittedError, match="LimeExplanation is not fitted"):
        LimeExplanation().score(samples)
    with pytest.raises(ConfigError, match="max_rows=0, points=1000: expected at least 1 and 10"):
        LimeExplanation(max_rows=0)
    with pytest.raises(DataError, match="expected both 0 and 1"):
        LimeExplanation(**SMALL).fit(ImportanceData.of(samples.features, np.ones(3_000)))
    with pytest.raises(DataError, match="features have 2 columns and those of fit 6"):
        fitted.score(ImportanceData.of(samples.features[:, :2], samples.label))
