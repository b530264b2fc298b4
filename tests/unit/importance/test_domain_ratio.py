"""Source rows weigh what they would if they came from the target."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, spearmanr

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance.base import ImportanceData, Reweigher
from heft.importance.domain_ratio import DomainRatio
from heft.importance.registry import create

SHIFT = np.array([0.8, -0.4])


def _shifted(
    source: int = 6_000, target: int = 2_000, seed: int = 0
) -> tuple[ImportanceData, np.ndarray]:
    """Two Gaussians of one covariance, and the true density ratio of every row."""
    rng = np.random.default_rng(seed)
    domain = np.r_[np.zeros(source, int), np.ones(target, int)]
    features = rng.normal(size=(source + target, 2)) + domain[:, None] * SHIFT
    chance = 1 / (1 + np.exp(-(features[:, 0] - 1)))
    label = (rng.random(len(domain)) < chance).astype(int)
    ratio = np.exp(
        multivariate_normal(SHIFT).logpdf(features) - multivariate_normal([0, 0]).logpdf(features)
    )
    return ImportanceData.of(features, label, domain=domain), ratio


@pytest.mark.parametrize("sizes", [(6_000, 2_000), (2_000, 6_000)])
def test_the_known_ratio_of_two_gaussians_is_found(sizes):
    """Whatever the sizes of the domains: the prior is taken out."""
    data, truth = _shifted(*sizes)
    found = DomainRatio(clip=1e6).fit(data).ratio(data)
    error = np.log(found) - np.log(truth)
    assert np.sqrt(np.mean(error**2)) < 0.15


def test_a_ratio_that_is_not_linear_is_found():
    """The target is narrower: its ratio is a hump, of which a linear logit sees nothing."""
    rng = np.random.default_rng(1)
    domain = np.r_[np.zeros(8_000, int), np.ones(8_000, int)]
    features = rng.normal(size=(16_000, 1)) * np.where(domain, 0.5, 1.0)[:, None]
    data = ImportanceData.of(features, domain, domain=domain)
    truth = 2 * np.exp(-1.5 * features[:, 0] ** 2)
    linear, network = (DomainRatio(hidden=width).fit(data).ratio(data) for width in (0, 32))
    assert spearmanr(network, truth).statistic > 0.9
    assert np.std(linear) < 0.1
    assert np.mean((network - truth) ** 2) < 0.1 * np.var(truth)


def test_a_weighted_mean_over_the_source_is_one_over_the_target():
    corrected, plain = [], []
    for seed in range(8):
        data, _ = _shifted(4_000, 4_000, seed)
        source, target = data.domain == 0, data.domain == 1
        weight = DomainRatio().fit(data).weight(data)
        assert weight[source].mean() == pytest.approx(1.0, abs=1e-5)
        assert (weight[target] == 1).all()
        goal = data.label[target].mean()
        corrected.append(np.average(data.label[source], weights=weight[source]) - goal)
        plain.append(data.label[source].mean() - goal)
    assert abs(np.mean(corrected)) < 0.015
    assert np.mean(plain) < -0.1


def test_without_a_shift_all_weights_are_about_one():
    data, _ = _shifted(seed=2)
    rng = np.random.default_rng(3)
    mixed = ImportanceData.of(data.features, data.label, domain=rng.permutation(data.domain))
    weight = DomainRatio().fit(mixed).weight(mixed)
    assert np.std(weight) < 0.1


def test_a_group_is_judged_by_a_network_that_has_not_seen_it():
    """Groups with a feature of their own: learnt by heart, it would tell the domains apart."""
    rng = np.random.default_rng(4)
    group = np.repeat(np.arange(60), 50)
    domain = rng.integers(0, 2, 60)[group]
    features = rng.normal(size=(60, 30))[group]
    data = ImportanceData.of(features, domain, group=group, domain=domain)
    alone = ImportanceData.of(features, domain, domain=domain)  # every row its own group
    assert np.std(DomainRatio().fit(data).ratio(data)) < 0.7
    with pytest.raises(DataError, match="barely overlap"):
        DomainRatio().fit(alone)


def test_rows_that_fit_has_not_seen_and_rows_in_another_order():
    data, _ = _shifted(seed=5)
    estimator = create("domain_ratio", random_state=3).fit(data)
    assert isinstance(estimator, Reweigher)
    order = np.random.default_rng(0).permutation(len(data))[:500]
    assert estimator.weight(data.take(order)) == pytest.approx(estimator.weight(data)[order])
    assert (DomainRatio(random_state=3).fit(data).weight(data) == estimator.weight(data)).all()
    other, truth = _shifted(500, 500, seed=6)
    unlabelled = ImportanceData.of(other.features, other.label)
    score = estimator.score(unlabelled)
    assert score.dtype == np.float32
    assert spearmanr(score, truth).statistic > 0.99


def test_the_clip_bounds_what_one_row_may_stand_for():
    data, _ = _shifted(seed=7)
    estimator = DomainRatio(clip=2.0).fit(data)
    weight = estimator.weight(data)[data.domain == 0]
    assert weight.max() <= 2.0 / estimator.mean_ * 1.0001
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    assert weight.max() < DomainRatio().fit(data).weight(data).max()


def test_domains_that_do_not_overlap_are_refused():
    data, _ = _shifted(seed=8)
    far = data.features + 20 * data.domain[:, None]
    with pytest.raises(DataError, match="expected about 1: source and target barely overlap"):
        DomainRatio().fit(ImportanceData.of(far, data.label, domain=data.domain))


def test_bad_input_is_named():
    data, _ = _shifted(50, 50)
    with pytest.raises(DataError, match="domain_ratio needs the column 'domain'"):
        DomainRatio().fit(ImportanceData.of(data.features, data.label))
    with pytest.raises(DataError, match="domain=2 in 50 rows: expected 1 for the target"):
        DomainRatio().fit(ImportanceData.of(data.features, data.label, domain=2 * data.domain))
    with pytest.raises(DataError, match="0 of 100 rows are of the target domain"):
        DomainRatio().fit(ImportanceData.of(data.features, data.label, domain=0 * data.domain))
    with pytest.raises(DataError, match="got 0 features"):
        DomainRatio().fit(ImportanceData.of(np.zeros((100, 0)), data.label, domain=data.domain))
    few = np.r_[np.ones(4, int), np.zeros(96, int)]
    with pytest.raises(DataError, match="4 of 100 rows are .* expected at least 5 of either"):
        DomainRatio().fit(ImportanceData.of(data.features, data.label, domain=few))
    with pytest.raises(NotFittedError, match=r"call DomainRatio.fit\(data\)"):
        DomainRatio().weight(data)
    for setting, message in [
        ({"hidden": -1}, "hidden=-1: expected at least 0"),
        ({"folds": 1}, "folds=1: expected at least 2"),
        ({"clip": 1}, "clip=1 must be above 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            DomainRatio(**setting)
