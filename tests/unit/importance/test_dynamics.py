"""Each score over the trace equals its slow twin, and finds what it is for."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf
from cleanlab.rank import get_label_quality_scores
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.aum import Aum
from heft.importance.base import Estimator, ImportanceData
from heft.importance.dynamics import one_pass
from heft.importance.el2n import El2n
from heft.importance.forgetting import Forgetting
from heft.importance.grand import Grand
from heft.importance.keys import fold_of
from heft.importance.label_quality import LabelQuality
from heft.importance.proxy import OutOfFoldProxy
from heft.importance.relevance_agreement import RelevanceAgreement
from heft.importance.rho_loss import RhoLoss
from heft.importance.tracin import TracIn

from .conftest import make_data
from .test_proxy import tensors, written_loss

FAMILY = [El2n, Grand, Aum, Forgetting, LabelQuality, RhoLoss, TracIn]


def observed_data(rows=200, **columns):
    data, _ = make_data(rows=rows, seed=4)
    theta = np.linspace(0.2, 1.0, rows)
    return replace(data.with_observed(theta), **columns)


def gradient_of(proxy, data, rows, checkpoint, fold=None):
    """∂(mean loss)/∂(all parameters) of the rows, flat, by automatic differentiation."""
    rows = np.atleast_1d(rows)
    fold = proxy.fold(data)[rows[0]] if fold is None else fold
    variables, logits = tensors(proxy.networks_[checkpoint][fold])
    x = (data.features[rows] - proxy.scaling_.mean) * proxy.scaling_.inverse
    y, theta = data.label[rows].astype(float), data.observation()[rows]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(
            written_loss(logits(tf.constant(x, tf.float64)), _Row(y, 1 - y, theta))
        )
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    return np.concatenate([np.ravel(g) for g in found])


class _Row:
    def __init__(self, positive, negative, observed):
        self.positive, self.negative, self.observed = positive, negative, observed


@pytest.mark.parametrize("hidden", [0, 8])
def test_grand_is_the_norm_of_the_gradient_of_all_parameters(hidden):
    data = observed_data()
    proxy = OutOfFoldProxy(hidden=hidden)
    score = Grand(proxy).fit(data).score(data)
    wanted = [np.linalg.norm(gradient_of(proxy, data, i, 0)) for i in range(40)]
    assert score[:40] == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("hidden", [0, 6])
def test_tracin_adds_up_gradients_against_those_of_the_slice(hidden):
    """Slice 0 has enough reference rows; 1 too few, and 7 none: those take the mean over all."""
    data = observed_data(slice=np.tile([0, 1, 7, 0], 50))
    reference = replace(make_data(rows=40, seed=9)[0], slice=np.repeat([0, 1], [31, 9]))
    proxy = OutOfFoldProxy(hidden=hidden, epochs=2)
    score = TracIn(proxy, reference).fit(data).score(data)
    for row in range(8):
        wanted, fold = 0.0, proxy.fold(data)[row]
        rows = np.arange(31 if data.slice[row] == 0 else 40)
        for epoch in range(2):
            mean = gradient_of(proxy, reference, rows, epoch, fold)
            own = gradient_of(proxy, data, row, epoch)
            wanted += proxy.learning_rates_[epoch] * own @ mean
        assert score[row] == pytest.approx(wanted, rel=2e-3, abs=1e-7)


def test_tracin_without_a_reference_asks_the_other_half_of_the_unseen_fold():
    data = observed_data(rows=240)
    proxy = OutOfFoldProxy(folds=2, hidden=4, epochs=1)
    score = TracIn(proxy, slices=1).fit(data).score(data)
    fold, side = proxy.fold(data), fold_of(data.group, 2, 1)
    for row in range(0, 240, 16):
        others = np.flatnonzero((fold == fold[row]) & (side != side[row]))
        own, mean = (gradient_of(proxy, data, rows, 0) for rows in (row, others))
        wanted = proxy.learning_rates_[0] * own @ mean
        assert score[row] == pytest.approx(wanted, rel=2e-3, abs=1e-7)


def test_aum_is_the_mean_margin_over_the_checkpoints():
    data = observed_data()
    proxy = OutOfFoldProxy(epochs=4)
    score = Aum(proxy).fit(data).score(data)
    for row in range(len(data)):
        margins = []
        for z in proxy.trace(data).logits[row].astype(float):
            a = 1 / (1 + np.exp(-z))
            seen = data.observed[row] * a
            missed = np.log((1 - seen) / seen)
            margins.append(z if data.label[row] else missed)
        assert score[row] == pytest.approx(np.mean(margins), abs=1e-4)


def test_forgetting_counts_what_was_right_and_then_wrong():
    data, _ = make_data(rows=400, flipped=0.5)
    proxy = OutOfFoldProxy(epochs=9)
    score = Forgetting(proxy).fit(data).score(data)
    base = np.log(proxy.rate_ / (1 - proxy.rate_))
    for row, logits in enumerate(proxy.trace(data).logits):
        right = [(z > base) == bool(data.label[row]) for z in logits]
        events = sum(a and not b for a, b in pairwise(right))
        assert score[row] == (events if any(right) else 9)
    assert len(np.unique(score)) > 3


def test_forgetting_does_not_call_every_rare_click_wrong():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20_000, 3)).astype(np.float32)
    rare = rng.random(20_000) < 0.03 * np.exp(features[:, 0])
    score = Forgetting().fit(d := ImportanceData.of(features, rare)).score(d)
    assert (score[rare] == 0).mean() > 0.5


def test_label_quality_is_cleanlabs_score():
    data = observed_data(rows=2_000)
    proxy = OutOfFoldProxy()
    score = LabelQuality(proxy).fit(data).score(data)
    positive = proxy.trace(data).final * np.where(data.label == 1, 1.0, data.observed)
    theirs = get_label_quality_scores(
        data.label,
        np.stack([1 - positive, positive], axis=1),
        method="normalized_margin",
        adjust_pred_probs=True,
    )
    assert score == pytest.approx(theirs, abs=1e-5)


def test_rho_loss_is_the_early_loss_less_that_of_a_model_of_the_reference():
    data, reference = observed_data(), make_data(rows=400, seed=9)[0]
    proxy = OutOfFoldProxy(hidden=4)
    score = RhoLoss(proxy, reference).fit(data).score(data)
    least = OutOfFoldProxy(hidden=4).fit(reference).trace(data).final.astype(float)
    current = proxy.trace(data).early.astype(float)

    def loss(a):
        # Up to the −log θ of a click, which both losses have.
        return np.where(data.label == 1, -np.log(a), -np.log1p(-data.observed * a))

    assert score == pytest.approx(loss(current) - loss(least), abs=1e-4)


def test_rho_loss_of_the_other_half_has_not_seen_the_sample():
    data, _ = make_data(rows=2_000)
    fitted = RhoLoss(random_state=1).fit(data)
    half = fitted.irreducible_.fold(data) == 0
    turned = replace(data, label=np.where(half, 1 - data.label, data.label))
    again = RhoLoss(random_state=1).fit(turned)
    before, after = (f.irreducible_.trace(data).final for f in (fitted, again))
    assert np.array_equal(before[half], after[half])
    assert np.abs(before[~half] - after[~half]).max() > 0.1


@pytest.fixture(scope="module")
def planted():
    """Fifteen percent of the labels turned over, and a clean reference."""
    data, wrong = make_data(rows=8_000, flipped=0.15)
    return data, wrong, make_data(rows=400, seed=9)[0], OutOfFoldProxy().fit(data)


@pytest.mark.parametrize(
    ("estimator", "least"), [(Aum, 0.85), (LabelQuality, 0.85), (RhoLoss, 0.7), (TracIn, 0.65)]
)
def test_labels_that_were_turned_over_score_low(planted, estimator, least):
    data, wrong, reference, proxy = planted
    clean = {"reference": reference} if estimator in (RhoLoss, TracIn) else {}
    score = estimator(proxy, **clean).fit(data).score(data)
    assert roc_auc_score(~wrong, score) > least


@pytest.mark.parametrize("estimator", [El2n, Grand, Forgetting])
def test_hard_samples_are_high_turned_labels_among_them(planted, estimator):
    data, wrong, _, proxy = planted
    score = estimator(proxy).fit(data).score(data)
    assert roc_auc_score(wrong, score) > 0.8


def test_rho_loss_prefers_the_learnable_to_noise():
    """Half the rows follow a rule, the other half a coin."""
    rng = np.random.default_rng(5)
    features = rng.normal(size=(12_000, 4)).astype(np.float32)
    rule = features[:, 3] > 0
    label = np.where(rule, features[:, 0] * features[:, 1] > 0, rng.random(12_000) < 0.5)
    data = ImportanceData.of(features, label)
    score = RhoLoss().fit(data).score(data)
    assert score[rule].mean() > 0.05
    assert score[~rule].mean() < 0.5 * score[rule].mean()


@pytest.mark.parametrize("estimator", FAMILY)
def test_other_rows_another_order_and_one_label_only(estimator, data):
    fitted = estimator(random_state=3).fit(data)
    assert isinstance(fitted, Estimator)
    whole = fitted.score(data)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    some = np.flatnonzero(data.label == 1)[::-1][:500]
    assert fitted.score(data.take(some)) == pytest.approx(whole[some], abs=2e-3)
    assert fitted.score(data.take(some[:0])).shape == (0,)
    shuffled = data.take(np.argsort(-data.features[:, 0]))
    again = estimator(random_state=3).fit(shuffled).score(data)
    assert spearmanr(whole, again).statistic > 0.99
    assert np.array_equal(estimator(random_state=3).fit(data).score(data), whole)


def test_one_pass_trains_once_and_says_what_each_says_alone(data):
    proxy = OutOfFoldProxy()
    found = one_pass(data, proxy=proxy)
    networks = proxy.networks_
    assert list(found) == ["el2n", "grand", "aum", "tracin"]
    for name, cls in (("el2n", El2n), ("grand", Grand), ("aum", Aum), ("tracin", TracIn)):
        assert np.array_equal(found[name], cls(OutOfFoldProxy()).fit(data).score(data))
    one_pass(data, ["label_quality", "forgetting"], proxy)
    assert proxy.networks_ is networks


def planted_relevance(rows=20_000):
    rng = np.random.default_rng(6)
    relevance = rng.uniform(-0.2, 0.9, rows).astype(np.float32)
    attractive = 0.05 + 0.6 * np.clip(relevance, 0, None) ** 2
    theta = rng.choice([1.0, 0.4, 0.2], rows)
    click = rng.random(rows) < theta * attractive
    columns = {"relevance": relevance, "observed": theta, "group": np.arange(rows) // 10}
    return ImportanceData.of(np.zeros((rows, 0)), click, **columns), attractive


def test_relevance_agreement_finds_the_click_if_examined():
    data, attractive = planted_relevance()
    score = RelevanceAgreement().fit(data).score(data)
    clicked = data.label == 1
    assert score.dtype == np.float32
    assert np.abs(score[clicked] - attractive[clicked]).mean() < 0.03
    missed = 1 - data.observed * attractive
    assert np.abs(score[~clicked] - missed[~clicked]).mean() < 0.03
    by_relevance = np.argsort(data.relevance[clicked & (fold_of(data.group, 4) == 0)])
    rising = score[clicked & (fold_of(data.group, 4) == 0)][by_relevance]
    assert (np.diff(rising) >= 0).all()


def test_relevance_agreement_tells_stray_clicks_from_meant_ones():
    data, _ = planted_relevance()
    stray = np.random.default_rng(0).random(len(data)) < 0.02
    noisy = replace(data, label=np.where(stray, 1, data.label))
    score = RelevanceAgreement().fit(noisy).score(noisy)
    clicked = noisy.label == 1
    assert roc_auc_score(data.label[clicked], score[clicked]) > 0.7


def test_relevance_agreement_does_not_use_the_rows_own_fold():
    data, _ = planted_relevance(2_000)
    own = fold_of(data.group, 4) == 1
    turned = replace(data, label=np.where(own, 1 - data.label, data.label))
    before, after = (RelevanceAgreement().fit(d).score(data) for d in (data, turned))
    assert np.array_equal(before[own], after[own])
    assert not np.array_equal(before[~own], after[~own])


def test_bad_input_is_named(data):
    for estimator in (*FAMILY, RelevanceAgreement):
        with pytest.raises(NotFittedError, match="is not fitted"):
            estimator().score(data)
    constant = replace(data, label=np.ones(len(data), int))
    for estimator in FAMILY:
        with pytest.raises(DataError, match="all 4000 labels are 1: expected both"):
            estimator().fit(constant)
    with pytest.raises(DataError, match="needs the column 'relevance'"):
        RelevanceAgreement().fit(data)
    odd = replace(data, relevance=np.full(len(data), np.nan))
    with pytest.raises(DataError, match="relevance=nan in row 0: expected a finite cosine"):
        RelevanceAgreement().fit(odd)
    with pytest.raises(DataError, match="reference has 0 rows: expected at least one"):
        TracIn(reference=data.take(np.arange(0))).fit(data)
    with pytest.raises(DataError, match="received 0 rows"):
        RhoLoss(reference=data.take(np.arange(0))).fit(data)
    with pytest.raises(ConfigError, match="slices=0"):
        TracIn(slices=0)
    with pytest.raises(ConfigError, match="folds=1"):
        RelevanceAgreement(folds=1)
    sliced = TracIn().fit(replace(data, slice=data.pair))
    with pytest.raises(DataError, match="tracin needs the column 'slice'"):
        sliced.score(data)
