"""Bots among people: planted, found, and nobody else harmed."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import Fraud, ImportanceData
from heft.importance.behaviour_profile import merge_profiles

PAGE, PAGES, PRODUCTS = 8, 6, 300
THETA = 1 / np.arange(1, PAGE + 1)
BOTS = ("uniform", "hammer", "competitor", "stealth")


def log(people: int, each: int, seed: int = 0) -> tuple[ImportanceData, np.ndarray]:
    """Visits of people and of `each` bots of every kind; the second value names the visitors."""
    rng = np.random.default_rng(seed)
    kinds = np.array(["person"] * people + [kind for kind in BOTS for _ in range(each)])
    attractive = rng.beta(1, 2, PRODUCTS)
    user = np.repeat(np.arange(len(kinds)), PAGES * PAGE)
    kind = kinds[user]
    group = np.arange(len(user)) // PAGE
    position = np.tile(np.arange(1, PAGE + 1), len(kinds) * PAGES)
    pair = np.concatenate(
        [rng.choice(PRODUCTS, PAGE, replace=False) for _ in range(len(kinds) * PAGES)]
    )
    # A competitor is after the product that it has on most of its pages.
    target = kind == "competitor"
    pair[target & (position == 1 + group % PAGE)] = PRODUCTS
    look = THETA[position - 1]
    worth = np.append(attractive, 0.3)[pair]
    chance = np.select(
        [kind == "uniform", kind == "hammer", target, kind == "stealth"],
        [0.5, np.where(position == 1, 0.95, 0.01), np.where(pair == PRODUCTS, 0.9, 0.01), look],
        look * worth,
    )
    label = (rng.random(len(user)) < chance).astype(np.int64)
    delay = np.where(kind == "person", rng.lognormal(2, 1, len(user)), rng.exponential(0.5))
    start = np.repeat(rng.integers(0, 10**9, len(kinds) * PAGES), PAGE)
    features = np.append(attractive, 0.3)[pair][:, None] + 0.2 * rng.normal(size=(len(user), 2))
    data = ImportanceData(
        features=features.astype(np.float32),
        label=label,
        group=group,
        position=position,
        propensity=np.full(len(user), np.nan, np.float32),
        pair=pair.astype(np.int64),
        user=user,
        timestamp=start.astype(np.int64),
        click_delay=np.where(label == 1, delay, np.nan).astype(np.float32),
        relevance=(worth + 0.2 * rng.normal(size=len(user))).astype(np.float32),
    )
    return data, kind


@pytest.fixture(scope="module")
def shop() -> tuple[ImportanceData, np.ndarray]:
    return log(people=900, each=15)


@pytest.fixture(scope="module")
def fitted(shop: tuple[ImportanceData, np.ndarray]) -> Fraud:
    return Fraud().fit(shop[0])


@pytest.mark.parametrize("kind", BOTS)
def test_every_kind_of_bot_is_found(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud, kind: str
) -> None:
    data, kinds = shop
    rows = (data.label == 1) & np.isin(kinds, ["person", kind])
    score = fitted.score(data.take(rows))
    assert roc_auc_score(kinds[rows] == "person", score) > 0.98


def test_without_delays_times_and_relevance_clicks_alone_give_them_away(
    shop: tuple[ImportanceData, np.ndarray],
) -> None:
    data, kinds = shop
    bare = replace(data, click_delay=None, timestamp=None, relevance=None)
    clicked = data.label == 1
    score = Fraud().fit(bare).score(bare)
    assert roc_auc_score(kinds[clicked] == "person", score[clicked]) > 0.97


def test_people_keep_their_weight_and_bots_lose_theirs(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud
) -> None:
    data, kinds = shop
    weight = fitted.weight(data)
    assert ((weight >= 0) & (weight <= 1)).all()
    clicked = data.label == 1
    assert weight[clicked & (kinds == "person")].mean() > 0.99
    assert weight[clicked & (kinds != "person")].mean() < 0.15


def test_where_all_are_people_nobody_loses_weight() -> None:
    data, _ = log(people=500, each=0, seed=4)
    assert Fraud().fit(data).weight(data).mean() > 0.99


def test_visitors_that_fit_has_not_met_are_judged_by_what_they_do(fitted: Fraud) -> None:
    others, kinds = log(people=60, each=6, seed=9)
    others = replace(others, user=others.user + 10_000, group=others.group + 10_000_000)
    clicked = others.label == 1
    score = fitted.score(others)
    assert roc_auc_score(kinds[clicked] == "person", score[clicked]) > 0.95


def test_scores_do_not_depend_on_the_order_of_rows_nor_on_pickling(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud
) -> None:
    data, _ = shop
    order = np.random.default_rng(0).permutation(len(data))
    again = Fraud().fit(data.take(order)).score(data)
    np.testing.assert_allclose(again, fitted.score(data), atol=1e-4)
    carried = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(carried.score(data), fitted.score(data))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 3), min_size=930, max_size=930), st.integers(1, 4))
def test_merged_profiles_of_parts_are_the_profile_of_the_whole(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud, dealt: list[int], parts: int
) -> None:
    data, _ = shop
    part = np.resize(dealt, data.group.max() + 1)[data.group] % parts
    shards = [fitted.profile(data.take(part == k)) for k in range(parts) if (part == k).any()]
    merged, whole = merge_profiles(shards), fitted.profile(data)
    for name in whole.__dataclass_fields__:
        np.testing.assert_allclose(
            getattr(merged, name), getattr(whole, name), rtol=1e-6, err_msg=name
        )


def test_kinds_are_bayes_rule_over_the_varieties_of_each(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud
) -> None:
    data, _ = shop
    profile, mixture = fitted.profile(data), fitted.mixture_
    value, kind = mixture._varieties(profile)
    log_tempo = np.log(mixture.tempo_)
    expected = np.zeros((len(profile), 6))
    for user in range(len(profile)):
        delay = np.log(mixture.delay_) @ profile.delays[user]
        said = (delay - delay[0]) * min(1.0, 16 / max(profile.delays[user].sum(), 1))
        tempo = log_tempo[:, profile.tempo()[user]]
        said += np.clip(tempo - tempo[0], -3, 3)
        joint = value[user] + np.log(mixture.share_) + said[kind]
        chance = np.exp(joint - joint.max())
        np.add.at(expected[user], kind, chance / chance.sum())
    np.testing.assert_allclose(mixture.posterior(profile), expected, atol=1e-12)


def test_what_is_pickled_grows_with_users_and_pairs_and_not_with_rows(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud
) -> None:
    data, _ = shop
    users, pairs = len(np.unique(data.user)), len(np.unique(data.pair))
    both = len(np.unique(np.stack([data.user, data.pair], axis=1), axis=0))
    assert len(pickle.dumps(fitted)) < 16 * both + 24 * pairs + 64 * users + 20_000
    rows = np.tile(np.arange(len(data)), 3)
    again = data.take(rows)
    again = replace(again, group=again.group + 10**6 * (np.arange(len(rows)) // len(data)))
    thrice = Fraud(rounds=1).fit(again)
    assert len(pickle.dumps(thrice)) < 1.01 * len(pickle.dumps(fitted))


def test_without_users_a_request_stands_alone_and_people_are_left_in_peace(
    shop: tuple[ImportanceData, np.ndarray],
) -> None:
    data, kinds = shop
    alone = replace(data, user=None)
    fitted = Fraud().fit(alone)
    weight = fitted.weight(alone)
    assert weight[(data.label == 1) & (kinds == "person")].mean() > 0.95
    np.testing.assert_array_equal(fitted.score(alone.take(np.arange(8)))[0], fitted.score(alone)[0])


def test_a_request_alone_says_less_than_all_that_its_visitor_did(
    shop: tuple[ImportanceData, np.ndarray], fitted: Fraud
) -> None:
    data, kinds = shop
    clicked = data.label == 1
    one, person = fitted.score_requests(data)[clicked], kinds[clicked] == "person"
    all_visits = roc_auc_score(person, fitted.score(data)[clicked])
    assert 0.6 < roc_auc_score(person, one) < all_visits


@pytest.mark.parametrize("label", [0, 1])
def test_one_label_says_how_many_clicks_there_were(label: int) -> None:
    data, _ = log(people=3, each=0)
    same = replace(data, label=np.full(len(data), label))
    with pytest.raises(DataError, match=f"{label * len(data)} of {len(data)} rows are clicks"):
        Fraud().fit(same)


def test_bad_input(fitted: Fraud) -> None:
    data, _ = log(people=2, each=0)
    with pytest.raises(NotFittedError, match="call Fraud.fit"):
        Fraud().score(data)
    with pytest.raises(DataError, match="0 of 0 rows are clicks"):
        Fraud().fit(data.take(np.arange(0)))
    with pytest.raises(DataError, match="0 profiles: expected at least one"):
        merge_profiles([])
    for given_, said in (
        ({"maximum_share": 1.0}, "maximum_share=1.0: expected between 0 and 1"),
        ({"burden": -1.0}, "burden=-1.0: expected at least 0"),
        ({"drop_below": 0.5}, "drop_below=0.5 must be below keep_above=0.5"),
        ({"rounds": 0}, "rounds=0: expected at least 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            Fraud(**given_)
    nothing = data.take(np.arange(0))
    assert fitted.score(nothing).shape == fitted.score_requests(nothing).shape == (0,)
