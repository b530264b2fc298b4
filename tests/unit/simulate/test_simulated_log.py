"""What the simulated logs hold: statistics against the truth, and what must never be there."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.unit.simulate.readback import Log, run

EXAMINATION = np.array([0.68, 0.61, 0.48, 0.34, 0.28, 0.20, 0.11, 0.10, 0.08, 0.06])
START = pd.Timestamp("2026-01-05", tz="UTC").value // 1_000_000
DAY = 86_400_000
# Two-sided, about one false alarm in 300,000 checks; seeds are fixed besides.
SIGMAS = 4.7


def within(successes: float, expected: float, variance: float) -> bool:
    return abs(successes - expected) <= SIGMAS * np.sqrt(variance)


def binomial(rows: pd.Series, probability: pd.Series | float) -> bool:
    p = np.broadcast_to(probability, rows.shape)
    return within(rows.sum(), p.sum(), (p * (1 - p)).sum())


def test_clicks_on_shuffled_pages_are_proportional_to_examination(plain: Log) -> None:
    rows = plain.joined()
    attraction = 0.1 + 0.9 * (2.0 ** rows["grade"] - 1) / 7
    for position, group in rows.groupby("position"):
        assert binomial(group["click"], EXAMINATION[position - 1] * attraction[group.index].mean())
    # And a wrong curve is found out: the test can fail.
    last = rows[rows["position"] == 10]
    assert not binomial(last["click"], EXAMINATION[8] * attraction[last.index].mean())


def test_shuffled_order_is_independent_of_grade(plain: Log) -> None:
    rows = plain.joined()
    spread, mean = rows["grade"].std(), rows["grade"].mean()
    for _, group in rows.groupby("position"):
        # Items of a page differ less than items of all pages, so the bound is wide.
        assert abs(group["grade"].mean() - mean) < SIGMAS * spread / np.sqrt(len(group))


def test_the_ranker_knows_something_and_still_moves_pairs_around(usual: Log) -> None:
    rows = usual.joined().query("randomised == 0")
    grade = rows.groupby("position")["grade"].mean()
    assert grade[1] > grade[10] + 0.2
    places = rows.groupby(["query", "item_id"])["position"].agg(["nunique", "size"])
    assert places.loc[places["size"] >= 10, "nunique"].median() >= 4


def test_truth_gives_the_probability_of_every_click(usual: Log) -> None:
    rows = usual.joined()
    for _, group in rows.groupby(["bot_kind", "position"]):
        assert binomial(group["click"], group["click_probability"])
    for _, group in rows[~rows["is_bot"]].groupby(["grade", "position"]):
        assert binomial(group["click"], group["click_probability"])


def test_trust_bias_feeds_irrelevant_items_at_the_top(usual: Log) -> None:
    rows = usual.joined().query("grade == 0 and not is_bot and position == 1")
    assert binomial(rows["click"], 0.68 * (0.2275 + 0.7725 * 0.1))
    assert not binomial(rows["click"], 0.68 * 0.1)


def test_bots_have_their_share_and_their_habits(usual: Log) -> None:
    rows = usual.joined()
    pages = rows.drop_duplicates("request_id")
    assert usual.counts["bot_sessions"] == pages["is_bot"].sum() == 2_000
    kinds = pages.loc[pages["is_bot"], "bot_kind"].value_counts()
    assert set(kinds.index) == {"uniform", "hammer", "competitor", "stealth"}
    assert kinds.min() > 400
    clicked = rows[rows["click"]]
    assert set(clicked.loc[clicked["bot_kind"] == "hammer", "position"]) == {1}
    victims = clicked[clicked["bot_kind"] == "competitor"].groupby("user_id")["item_id"].nunique()
    assert len(victims) > 1 and set(victims) == {1}
    blind = rows[rows["bot_kind"] == "stealth"]
    assert binomial(blind.loc[blind["grade"] == 3, "click"],
                    EXAMINATION[blind.loc[blind["grade"] == 3, "position"] - 1] / 2)  # fmt: skip
    people = set(rows.loc[~rows["is_bot"], "user_id"])
    assert not people & set(rows.loc[rows["is_bot"], "user_id"])


def test_bots_never_buy(usual: Log) -> None:
    bots = usual.truth.loc[usual.truth["is_bot"], "impression_id"]
    assert not usual.conversions["impression_id"].isin(bots).any()


def test_conversions_follow_clicks_and_the_end_of_data_hides_the_rest(usual: Log) -> None:
    clicks = usual.clicks.merge(usual.truth, on="impression_id", validate="1:1")
    end = START + usual.settings.days * DAY
    clicks["due"] = clicks["timestamp"] + clicks["conversion_delay"]
    due = clicks[clicks["potential_conversion"]].set_index("impression_id")["due"]
    logged = usual.conversions.set_index("impression_id")["timestamp"]
    expected = due[due < end].astype("int64")
    assert logged.sort_index().equals(expected.sort_index().rename("timestamp"))
    assert usual.counts["unseen_conversions"] == (due >= end).sum() > 0
    assert (usual.conversions["value"] > 0).all()
    for stream in (usual.impressions, usual.clicks, usual.conversions):
        assert stream["timestamp"].between(START, end - 1).all()


def test_clicks_follow_their_impression(usual: Log) -> None:
    rows = usual.clicks.merge(usual.impressions, on="impression_id", validate="1:1")
    assert (rows["timestamp_x"] > rows["timestamp_y"]).all()


def test_potential_conversions_depend_on_grade_and_not_on_the_click(usual: Log) -> None:
    rows = usual.joined().query("not is_bot")
    for clicked in (True, False):
        for grade in range(4):
            group = rows[(rows["click"] == clicked) & (rows["grade"] == grade)]
            assert binomial(group["potential_conversion"], 0.02 + 0.28 * (grade / 3) ** 2)


def test_groups_are_disjoint_and_only_the_test_group_is_graded(usual: Log) -> None:
    groups = usual.queries.set_index("query")["group"]
    assert groups.index.is_unique
    assert groups.value_counts().to_dict() == {"train": 180, "tune": 30, "test": 90}
    logged = usual.impressions["query"].unique()
    assert set(groups[logged]) == {"train", "tune"}
    graded = pd.read_parquet(usual.folder / "grades")
    everything = pd.read_parquet(usual.folder / "truth" / "grades.parquet")
    test = everything[everything["group"] == "test"].drop(columns="group").reset_index(drop=True)
    assert graded.equals(test)
    assert usual.counts["graded_pairs"] == len(graded)


def test_tune_queries_arrive_late_and_train_queries_stay(usual: Log) -> None:
    groups = usual.queries.set_index("query")["group"]
    time = usual.impressions.assign(group=usual.impressions["query"].map(groups))
    late = START + 0.8 * usual.settings.days * DAY
    is_late = time["timestamp"] >= late
    assert set(time.loc[~is_late, "group"]) == {"train"}
    assert set(time.loc[is_late, "group"]) == {"train", "tune"}


def test_pages_are_whole_and_in_order(usual: Log) -> None:
    pages = usual.impressions.groupby("request_id", sort=False)
    assert (pages["position"].agg(list).map(lambda p: p == list(range(1, len(p) + 1)))).all()
    for column in ("user_id", "query", "timestamp", "randomised", "device"):
        assert (pages[column].nunique() == 1).all()
    assert (pages["item_id"].nunique() == pages.size()).all()
    assert usual.impressions["impression_id"].is_unique
    assert usual.impressions["timestamp"].is_monotonic_increasing
    share = usual.impressions.drop_duplicates("request_id")["randomised"]
    assert binomial(share, 0.1)


def test_the_log_says_nothing_of_the_truth(usual: Log) -> None:
    assert list(usual.impressions.columns) == [
        "impression_id", "request_id", "user_id", "query", "item_id", "position", "timestamp",
        "randomised", "device",
    ]  # fmt: skip
    assert list(usual.clicks.columns) == ["impression_id", "timestamp"]
    assert list(usual.conversions.columns) == ["impression_id", "timestamp", "value"]
    catalogue = pd.read_parquet(usual.folder / "catalogue")
    assert list(catalogue.columns) == ["item_id", "title", "category", "brand", "price"]
    # Nor do identifiers: bots stand all over the range of user numbers.
    people = usual.joined().groupby("user_id")["is_bot"].first().sort_index().to_numpy()
    assert abs(np.flatnonzero(people).mean() / len(people) - 0.5) < 0.2


def test_events_lie_in_the_span_in_which_they_happened(usual: Log) -> None:
    edges = START + DAY * np.array([0, 4, 9, 14])
    for name in ("impressions", "clicks", "conversions"):
        for span in (1, 2, 3):
            rows = pd.read_parquet(usual.folder / name / f"span-{span}")
            assert len(rows) > 0
            assert rows["timestamp"].between(edges[span - 1], edges[span] - 1).all()


def test_counts_are_those_of_the_files(usual: Log) -> None:
    assert usual.counts["impressions"] == len(usual.impressions) == len(usual.truth)
    assert usual.counts["clicks"] == len(usual.clicks)
    assert usual.counts["conversions"] == len(usual.conversions)
    assert usual.counts["sessions"] == usual.impressions["request_id"].nunique() == 20_000
    assert usual.counts["users"] == usual.impressions["user_id"].nunique() < 10_000
    assert json.loads((usual.folder / "simulation.json").read_text())["counts"] == usual.counts


def test_label_noise_of_a_half_leaves_no_signal(tmp_path) -> None:
    log = run(tmp_path / "log", sessions=1_500, label_noise=0.5, bots=0.0)
    for _, group in log.joined().groupby(["position"]):
        assert binomial(group["click"], 0.5)


def test_mobile_eta_makes_phones_look_less_deep(tmp_path) -> None:
    log = run(tmp_path / "log", sessions=2_000, mobile_eta=2.0, bots=0.0)
    rows = log.joined().query("position == 4")
    seen = rows.groupby("device")["examination_probability"].unique().map(list)
    assert seen["mobile"] == pytest.approx([0.34**2])
    assert seen["desktop"] == seen["tablet"] == pytest.approx([0.34])


def test_popularity_is_heavy_tailed_unless_flat(plain: Log, tmp_path) -> None:
    def top_share(log: Log) -> float:
        pages = log.impressions.drop_duplicates("request_id")["query"].value_counts()
        return pages.head(len(pages) // 10).sum() / pages.sum()

    flat = run(tmp_path / "log", sessions=5_000, popularity=0.0, bots=0.0)
    assert top_share(plain) > 0.35
    assert top_share(flat) < 0.2
