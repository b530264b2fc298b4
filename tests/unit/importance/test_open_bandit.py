"""Inverse propensity against real logs of two policies: the value of one from the other's log.

The Open Bandit Dataset (Saito et al. 2020, arXiv 2008.07146) holds a week of a fashion
shop under uniform choice (`random`) and Thompson sampling (`bts`), with the probability
of every item shown. With clicks as rare as 40 in 10,000 the intervals are wide; what an
item is like has no such noise, and is tested beside.

`bts` learns as it goes: the probability of one item at one position moves between 4.5e-5
and .95 within the week, so that its log, weighted by those, counts as 340 rows. As the
policy to be valued, and as a second set of propensities, it is therefore taken as its
shares of items by position over the week. That leaves the value as it is as long as
clicks do not follow the hour's policy. By the probabilities of the hour the value of
`random` comes out at .0023, below the interval of its known value, [.0026, .0051]; its
own interval, [.0010, .0043], holds the known .0038. So with them the test is of the
difference, to which both logs add their noise.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heft.importance.base import ImportanceData
from heft.importance.combine import effective_sample_size
from heft.importance.inverse_propensity import InversePropensity

_DRAWS = 1_000
CAMPAIGNS = ["all", "men", "women"]


@dataclass(frozen=True)
class Log:
    """Impressions of one policy."""

    item: np.ndarray
    position: np.ndarray
    click: np.ndarray
    propensity: np.ndarray
    trait: np.ndarray  # {0, 1}: whether the item's first feature is above the median

    def shares(self, items: int) -> np.ndarray:
        """(4, items): how often an item was shown at a position."""
        counts = np.zeros((4, items))
        np.add.at(counts, (self.position, self.item), 1)
        return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


@pytest.fixture(scope="module")
def folder(shop_data: Path) -> Path:
    return shop_data / "obd"


def _read(folder: Path, policy: str, campaign: str) -> Log:
    table = pd.read_csv(folder / policy / campaign / f"{campaign}.csv.gz")
    items = pd.read_csv(folder / policy / campaign / "item_context.csv").set_index("item_id")
    feature = items["item_feature_0"].sort_index()
    item = table["item_id"].to_numpy()
    return Log(
        item,
        table["position"].to_numpy(),
        table["click"].to_numpy(),
        table["propensity_score"].to_numpy(),
        (feature > feature.median()).to_numpy().astype(int)[item],
    )


def _weights(log: Log, target: np.ndarray, propensity: np.ndarray) -> np.ndarray:
    """(n,) target(item | position) / propensity, by Heft's own inverse of the propensity."""
    ones = ImportanceData.of(
        np.zeros((len(log.item), 1)),
        np.ones(len(log.item)),
        propensity=propensity,
        position=log.position,
    )
    inverse = InversePropensity(minimum=1e-7, variance_power=0.0).fit(ones).pairs(ones)[:, 0]
    return target[log.position, log.item] * inverse


def _drawn(weight: np.ndarray, outcome: np.ndarray, seed: int) -> np.ndarray:
    """Self-normalised values over bootstrap draws of rows."""
    rows = np.random.default_rng(seed).integers(0, len(weight), (_DRAWS, len(weight)))
    return (weight * outcome)[rows].sum(axis=1) / weight[rows].sum(axis=1)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _both_ways(folder: Path, campaign: str, marginal: bool) -> list[tuple[Log, np.ndarray, Log]]:
    """(log, its weights, the log of the policy that is valued), bts from random first."""
    random, bts = (_read(folder, policy, campaign) for policy in ("random", "bts"))
    items = int(max(random.item.max(), bts.item.max())) + 1
    uniform, shares = np.full((4, items), 1 / items), bts.shares(items)
    logged = shares[bts.position, bts.item] if marginal else bts.propensity
    return [
        (random, _weights(random, shares, random.propensity), bts),
        (bts, _weights(bts, uniform, logged), random),
    ]


def test_the_value_of_either_policy_from_the_others_log_is_inside_its_bootstrap_interval(folder):
    for log, weight, other in _both_ways(folder, "all", marginal=True):
        estimate = np.average(log.click, weights=weight)
        low, high = _interval(_drawn(np.ones(len(other.click)), other.click, seed=0))
        assert low <= estimate <= high
        assert effective_sample_size(weight) > 1_000


@pytest.mark.parametrize("campaign", CAMPAIGNS)
@pytest.mark.parametrize("marginal", [True, False], ids=["shares", "logged"])
def test_estimate_and_known_value_do_not_differ_beyond_the_noise_of_both(
    folder, campaign, marginal
):
    for log, weight, other in _both_ways(folder, campaign, marginal):
        estimate = _drawn(weight, log.click, seed=1)
        known = _drawn(np.ones(len(other.click)), other.click, seed=2)
        low, high = _interval(estimate - known)
        assert low <= 0 <= high


@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_what_the_other_policy_shows_is_found_where_the_unweighted_log_is_far_off(folder, campaign):
    """The share of items with a trait: known from the other log to ±1 %, and not rare."""
    for log, weight, other in _both_ways(folder, campaign, marginal=True):
        known = _drawn(np.ones(len(other.trait)), other.trait, seed=3)
        low, high = _interval(_drawn(weight, log.trait, seed=4) - known)
        assert low <= 0 <= high
        plain = _drawn(np.ones(len(log.trait)), log.trait, seed=5)
        low, high = _interval(plain - known)
        assert not low <= 0 <= high


def test_logged_propensities_turn_the_learning_policys_items_back_into_uniform_ones(folder):
    """Nothing here was estimated from the log that is weighed."""
    for campaign in ("all", "men"):
        _, (log, weight, other) = _both_ways(folder, campaign, marginal=False)
        low, high = _interval(_drawn(weight, log.trait, seed=6))
        assert low <= other.trait.mean() <= high
        assert weight.mean() == pytest.approx(1.0, abs=0.1)
