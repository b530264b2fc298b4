"""Influence by the last layer against retraining, explicit formulas and planted truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.base import Estimator, ImportanceData
from heft.importance.influence import Influence, attribution
from heft.importance.logistic import fit_layer
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.self_influence import SelfInfluence

from .conftest import make_data
from .retraining import explicit, fixed_scale, losses, reference, retrained, small


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_self_influence_is_the_formula(leave_one_out):
    data = small()
    h, residual, hessian = explicit(data)
    effect = np.einsum("nd,de,ne->n", h, np.linalg.inv(hessian), h)
    expected = residual**2 * effect
    if leave_one_out:
        p = residual + data.label
        expected /= 1 - p * (1 - p) * effect
    score = SelfInfluence(leave_one_out=leave_one_out).fit(data).score(data)
    assert score.dtype == np.float32
    assert score == pytest.approx(expected, rel=1e-3)


def test_self_influence_ranks_as_retraining_without_the_sample_does():
    """What the sample's own loss rises by; the leverage correction comes nearer to it."""
    data = small(rows=120, seed=4)
    x, layer = fixed_scale(data).astype(float), fit_layer(data.features, data.label)
    h = np.column_stack([x, np.ones(len(x))])
    rise = np.empty(len(data))
    for row in range(len(data)):
        without = retrained(x, data.label, np.arange(len(data)) != row)
        logit = h[row] @ without
        rise[row] = np.logaddexp(0, logit) - data.label[row] * logit - losses(layer, data)[row]
    plain = SelfInfluence().fit(data).score(data)
    corrected = SelfInfluence(leave_one_out=True).fit(data).score(data)
    assert spearmanr(plain, rise).statistic > 0.99
    assert spearmanr(corrected, rise).statistic > 0.99
    assert np.abs(corrected - rise).mean() < 0.6 * np.abs(plain - rise).mean()


def test_attribution_ranks_as_retraining_without_the_sample_does():
    data, targets = small(rows=120, seed=5), small(rows=8, seed=6)
    x = fixed_scale(data).astype(float)
    at = (targets.features - data.features.mean(0)) / data.features.std(0)
    at = np.column_stack([at, np.ones(len(at))])

    def loss(coefficients):
        return np.logaddexp(0, at @ coefficients) - targets.label * (at @ coefficients)

    whole = loss(retrained(x, data.label, slice(None)))
    rows = np.arange(len(data))
    rise = np.stack([loss(retrained(x, data.label, rows != row)) - whole for row in rows])
    found = attribution(data, targets)
    assert found.shape == (120, 8)
    for target in range(8):
        assert spearmanr(found[:, target], rise[:, target]).statistic > 0.98
        assert np.polyfit(found[:, target], rise[:, target], 1)[0] == pytest.approx(1, abs=0.15)


def test_influence_is_the_mean_attribution_to_the_slice():
    """Slices of a column, each mean drawn to that of all by 20 rows; else that of all."""
    data = replace(small(), slice=np.arange(240) % 4)
    clean = replace(small(rows=200, seed=8), slice=np.arange(200) % 3)
    every = attribution(data, clean).astype(float)
    overall = every.mean(axis=1)
    expected = overall.copy()
    for k in range(3):
        own, rows = every[:, clean.slice == k], data.slice == k
        mean = (own.sum(axis=1) + 20 * overall) / (own.shape[1] + 20)
        expected[rows] = mean[rows]
    score = Influence(reference=clean).fit(data).score(data)
    assert score.dtype == np.float32
    assert score == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_through_a_proxy_it_is_the_formula_on_the_hidden_layer_of_each_fold():
    data, _ = make_data(rows=1_200)
    clean = reference(60)
    proxy = OutOfFoldProxy(folds=3, epochs=1, hidden=8, random_state=2).fit(data)
    self_influence = SelfInfluence(proxy).fit(data).score(data)
    found = attribution(data, clean, proxy)
    hidden, fold = np.zeros((len(data), 8), np.float32), proxy.fold(data)
    for block in proxy.hidden(data):
        hidden[block.rows] = block.hidden
    for k in range(3):
        network, rows = proxy.networks_[-1][k], fold == k
        seen = network.last_inputs(proxy.scaling_.rows(clean.features, np.arange(len(clean))))
        part = ImportanceData.of(hidden[rows], data.label[rows])
        alone = SelfInfluence().fit(part).score(part)
        assert self_influence[rows] == pytest.approx(alone, rel=1e-4)
        targets = ImportanceData.of(seen, clean.label)
        assert found[rows] == pytest.approx(attribution(part, targets), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("through", [None, "proxy"])
def test_turned_labels_stand_out(through):
    data, wrong = make_data(rows=4_000, flipped=0.15)
    proxy = OutOfFoldProxy(random_state=1) if through else None
    learned_by_heart = SelfInfluence(proxy).fit(data).score(data)
    assert roc_auc_score(wrong, learned_by_heart) > 0.9
    helps = Influence(proxy, reference=reference()).fit(data).score(data)
    assert roc_auc_score(wrong, -helps) > 0.75


def test_slices_see_what_one_mean_gradient_cannot():
    """Labels that a linear layer cannot follow: its errors cancel over everything."""
    rng = np.random.default_rng(0)

    def rings(rows):
        x = rng.normal(size=(rows, 2)).astype(np.float32)
        return x, ((x**2).sum(axis=1) > 1.4).astype(int)

    x, label = rings(4_000)
    wrong = rng.random(4_000) < 0.2
    data = ImportanceData.of(x, np.where(wrong, 1 - label, label))
    clean = ImportanceData.of(*rings(600))
    found = [Influence(reference=clean, slices=s).fit(data).score(data) for s in (1, 20)]
    one, twenty = (roc_auc_score(wrong, -score) for score in found)
    assert one < 0.6
    assert twenty > 0.85


@pytest.mark.parametrize(
    "make",
    [
        lambda: SelfInfluence(leave_one_out=True),
        lambda: SelfInfluence(OutOfFoldProxy(epochs=1)),
        lambda: Influence(reference=reference()),
        lambda: Influence(OutOfFoldProxy(epochs=1)),
    ],
)
def test_rows_in_another_order_or_alone_get_the_same_scores(make):
    data, _ = make_data(rows=2_000)
    fitted = make().fit(data)
    assert isinstance(fitted, Estimator)
    score = fitted.score(data)
    order = np.random.default_rng(0).permutation(len(data))
    assert np.array_equal(make().fit(data).score(data), score)
    tolerance = {"rel": 1e-3, "abs": 1e-3 * float(score.std())}
    assert make().fit(data.take(order)).score(data)[order] == pytest.approx(
        score[order], **tolerance
    )
    assert fitted.score(data.take(order[:77])) == pytest.approx(score[order[:77]], **tolerance)
    assert len(fitted.score(data.take(order[:0]))) == 0
    assert np.isfinite(fitted.score(make_data(rows=400, seed=77)[0])).all()


@settings(max_examples=12, deadline=None)
@given(
    scale=st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4),
    shift=st.lists(st.floats(-10, 10), min_size=4, max_size=4),
)
def test_units_of_the_features_do_not_matter(scale, shift):
    data = small(rows=80, width=4)
    moved = data.features * np.float32(scale) + np.float32(scale) * np.float32(shift)
    other = ImportanceData.of(moved, data.label)
    expected = SelfInfluence().fit(data).score(data)
    assert SelfInfluence().fit(other).score(other) == pytest.approx(expected, rel=1e-2, abs=1e-5)
    assert (expected >= 0).all()


def test_constant_and_repeated_columns_are_no_obstacle():
    data = small()
    wide = np.column_stack([data.features, data.features[:, 0], np.full(len(data), 7.0)])
    score = SelfInfluence(leave_one_out=True).fit(wide_data := replace(data, features=wide))
    found = score.score(wide_data)
    assert np.isfinite(found).all()
    assert spearmanr(found, SelfInfluence().fit(data).score(data)).statistic > 0.95


def test_separable_labels_have_a_minimum():
    x = np.linspace(-1, 1, 60, dtype=np.float32)[:, None]
    data = ImportanceData.of(x, (x[:, 0] > 0).astype(int))
    score = SelfInfluence(l2=1e-3).fit(data).score(data)
    assert np.isfinite(score).all()
    assert score.argmax() in (29, 30)


def test_an_outlier_that_fit_has_not_seen_stays_finite():
    data = small()
    far = ImportanceData.of(np.full((1, 5), 1e4, np.float32), np.array([0]))
    score = SelfInfluence(leave_one_out=True).fit(data).score(far)
    assert np.isfinite(score).all()
    assert (score >= 0).all()


def test_a_fold_of_one_label_stays_at_the_base_rate():
    """Three positives in all, in one group: the other folds' layers have none."""
    data, _ = make_data(rows=800)
    label = np.zeros(800, int)
    label[:3] = 1
    rare = replace(data, label=label)
    proxy = OutOfFoldProxy(epochs=1)
    for estimator in (SelfInfluence(proxy), Influence(proxy), Influence(proxy, reference())):
        score = estimator.fit(rare).score(rare)
        assert np.isfinite(score).all()
    own = SelfInfluence(proxy).fit(rare).score(rare)
    assert own[:3].min() > own[3:].max()


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("make", [SelfInfluence, Influence])
def test_constant_labels_are_refused(make, value):
    data = replace(small(), label=np.full(240, value))
    with pytest.raises(DataError, match=f"{240 * value} of 240 labels are 1: expected both"):
        make().fit(data)


def test_what_cannot_be_used_is_named():
    data = small()
    with pytest.raises(ConfigError, match="l2=0: expected a number above 0"):
        SelfInfluence(l2=0).fit(data)
    with pytest.raises(ConfigError, match="slices=0: expected at least 1"):
        Influence(slices=0)
    with pytest.raises(ConfigError, match="folds=1: expected at least 2"):
        Influence(folds=1)
    with pytest.raises(DataError, match="reference has 0 rows"):
        Influence(reference=data.take(np.arange(0))).fit(data)
    with pytest.raises(DataError, match="0 of 0 labels"):
        SelfInfluence().fit(data.take(np.arange(0)))
    with pytest.raises(DataError, match="4 feature columns: expected the 5 of fit"):
        SelfInfluence().fit(data).score(small(width=4))
    with pytest.raises(DataError, match="4 feature columns: expected the 5 of fit"):
        Influence(reference=small(width=4)).fit(data)
    with pytest.raises(DataError, match="all 240 rows are in one fold of groups"):
        Influence().fit(replace(data, group=np.zeros(240, np.int64)))
    with pytest.raises(DataError, match="observed=0.0 in 240 rows: expected a probability"):
        SelfInfluence().fit(data.with_observed(np.zeros(240)))
    sliced = replace(data, slice=np.arange(240) % 2)
    with pytest.raises(DataError, match="influence needs the column 'slice'"):
        Influence(reference=sliced).fit(sliced).score(data)


@pytest.mark.parametrize("make", [SelfInfluence, Influence])
def test_scoring_before_fit(make):
    with pytest.raises(NotFittedError, match="is not fitted"):
        make().score(small())
