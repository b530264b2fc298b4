"""Half the clicks gone is found; the noise of small spans is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heft import features as f
from heft.examples import write_columns
from heft.gate.anomaly import Anomaly
from heft.gate.labels import LabelCounts, check_labels, count_labels, with_orphans
from heft.gate.settings import LabelBounds

from .spans import Columns, half_the_clicks_gone, impressions, texts

BOUNDS = LabelBounds()


def _counts(folder: Path, columns: Columns, shards: int = 1) -> LabelCounts:
    rows = len(columns[f.CLICK])
    paths = []
    for k in range(shards):
        path = folder / f"{len(list(folder.glob('*.gz')))}.gz"
        write_columns({name: values[k::shards] for name, values in columns.items()}, path)
        paths.append(str(path))
    counted = count_labels(paths)
    assert counted.rows == pytest.approx(rows) or f.SAMPLING in columns
    return counted


def _kinds(found: list[Anomaly]) -> list[tuple[str, str]]:
    return [(one.feature, one.kind) for one in found]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> LabelCounts:
    folder = tmp_path_factory.mktemp("usual")
    return LabelCounts.pooled([_counts(folder, impressions(6_000, seed)) for seed in (1, 2, 3)])


def test_counts_are_those_of_the_rows_and_survive_json(tmp_path: Path) -> None:
    columns = impressions(5_000, 7)
    counted = _counts(tmp_path, columns, shards=3)
    click, position = columns[f.CLICK], columns[f.POSITION]
    assert counted.clicks == click.sum() and counted.conversions == columns[f.CONVERSION].sum()
    assert counted.ctr == pytest.approx(click.mean())
    assert counted.cvr == pytest.approx(columns[f.CONVERSION].sum() / click.sum())
    assert counted.positions[:10] == tuple(np.bincount(position)[1:])
    assert counted.clicks_at[:10] == tuple(np.bincount(position, click)[1:])
    assert sum(counted.positions) == 5_000
    assert LabelCounts.of_json(counted.to_json()) == counted


def test_rows_that_were_sampled_count_as_many_as_they_stand_for(tmp_path: Path) -> None:
    columns = impressions(20_000, 3)
    whole = _counts(tmp_path, columns)
    rng = np.random.default_rng(0)
    requests = np.repeat(rng.random(2_000) < 0.4, 10)
    stayed = requests | (columns[f.CLICK] == 1)
    sampling = np.where(columns[f.CLICK] == 1, 1.0, 0.4).astype(np.float32)
    kept = {name: values[stayed] for name, values in (columns | {f.SAMPLING: sampling}).items()}
    sampled = _counts(tmp_path, kept)
    assert sampled.clicks == whole.clicks
    assert sampled.ctr == pytest.approx(whole.ctr, rel=0.05)
    assert check_labels(sampled, whole, BOUNDS) == []


def test_positions_past_the_last_are_counted_together_and_absent_ones_not(tmp_path: Path) -> None:
    columns = impressions(100, 1) | {f.POSITION: np.repeat([50, 51, 900, 1], 25)}
    assert _counts(tmp_path, columns).positions[49:] == (25.0, 50.0)
    del columns[f.POSITION]
    assert sum(_counts(tmp_path, columns).positions) == 0


def test_half_the_clicks_gone_is_found_and_a_usual_span_is_not(
    tmp_path: Path, usual: LabelCounts
) -> None:
    span = impressions(3_000, 4)
    assert check_labels(_counts(tmp_path, span), usual, BOUNDS) == []
    [found] = check_labels(_counts(tmp_path, half_the_clicks_gone(span)), usual, BOUNDS)
    assert (found.split, found.feature, found.kind, found.rows) == ("all", "CTR", "rate", 3_000)
    assert "before" in found.expected and "clicks on 3,000 impressions" in found.came


def test_lost_conversions_are_found_by_cvr_alone(tmp_path: Path, usual: LabelCounts) -> None:
    span = impressions(6_000, 5)
    kept = np.random.default_rng(2).random(6_000) < 0.2
    lost = _counts(tmp_path, span | {f.CONVERSION: span[f.CONVERSION] * kept})
    assert _kinds(check_labels(lost, usual, BOUNDS)) == [("CVR", "rate")]


def test_small_spans_are_noise_and_fire_no_more_often_than_they_may(
    tmp_path: Path, usual: LabelCounts
) -> None:
    """200 pages of each of 150 days at the same rates: none is stopped, though a third have a
    ratio outside of the bounds."""
    rng = np.random.default_rng(0)
    outside = 0
    for seed in range(150):
        now = _counts(tmp_path, impressions(int(rng.integers(3, 12)) * 10, 100 + seed))
        low, high = BOUNDS.ratio
        outside += not low * usual.ctr <= (now.ctr or 0) <= high * usual.ctr
        assert check_labels(now, usual, BOUNDS) == []
    assert outside > 20, "the bounds alone would have stopped them"


def test_one_person_who_clicks_everything_is_no_change_of_all(
    tmp_path: Path, usual: LabelCounts
) -> None:
    """Whole pages of clicks come from one source; rows that are counted one by one would
    make them certain."""
    span = impressions(1_200, 6)
    span[f.CLICK][:120] = 1
    span[f.USER_ID][:120] = b"bot"
    now = _counts(tmp_path, span)
    assert now.ctr / usual.ctr > BOUNDS.ratio[1]
    assert now.click_spread > 5
    assert check_labels(now, replace(usual, clicks_at=now.clicks_at), BOUNDS) == []


def test_positions_that_move_are_found_with_the_place(tmp_path: Path, usual: LabelCounts) -> None:
    span = impressions(3_000, 8)
    short = _counts(tmp_path, span | {f.POSITION: (span[f.POSITION] - 1) // 2 + 1})
    found = check_labels(short, usual, BOUNDS)
    assert ("position", "distribution") in _kinds(found)
    [shown] = [one for one in found if one.feature == "position"]
    assert "10.0% before, 20.0% now" in shown.came
    # The same pages, and clicks that no longer go by their place.
    even = span | {f.CLICK: span[f.CLICK][np.random.default_rng(0).permutation(3_000)]}
    assert _kinds(check_labels(_counts(tmp_path, even), usual, BOUNDS)) == [
        ("position of clicks", "distribution")
    ]


def _with_orphans(counts: LabelCounts, read: int, orphans: int) -> LabelCounts:
    return with_orphans(counts, {"read": read, "unattributed": {"orphan": orphans, "late": 5}})


@pytest.mark.parametrize(
    ("read", "orphans", "expected"),
    [
        (1_000, 20, []),
        (1_000, 60, []),  # the share has not risen by what it may
        (1_000, 150, ["at most 6.0% of clicks without an impression, as it was 1.0% before"]),
        (1_000, 400, ["at most 20.0% of clicks without an impression"]),
        (5, 2, []),  # two of five are noise
        (0, 0, []),
    ],
)
def test_clicks_without_an_impression(
    usual: LabelCounts, read: int, orphans: int, expected: list[str]
) -> None:
    before = _with_orphans(usual, 2_000, 20)
    found = check_labels(_with_orphans(usual, read, orphans), before, BOUNDS)
    assert [one.expected for one in found] == expected
    assert all(one.kind == "orphans" and one.rows == orphans for one in found)


def test_a_log_without_clicks_has_no_orphans(usual: LabelCounts) -> None:
    assert with_orphans(usual, None).orphan_share is None


def test_a_first_span_is_held_against_what_the_config_says_alone(
    tmp_path: Path, usual: LabelCounts
) -> None:
    now = _counts(tmp_path, half_the_clicks_gone(impressions(3_000, 4)))
    assert check_labels(now, None, BOUNDS) == []
    [found] = check_labels(now, None, LabelBounds(ctr=(0.08, 0.2)))
    assert found.feature == "CTR" and found.expected == "0.08 to 0.2 at any time"
    assert check_labels(usual, None, LabelBounds(ctr=(0.08, 0.2), cvr=(0.1, 0.3))) == []


def test_users_are_clusters_and_without_them_requests(tmp_path: Path) -> None:
    rows = 8_000
    click = np.repeat(np.random.default_rng(0).random(rows // 40) < 0.2, 40).astype(np.int64)
    columns = impressions(rows, 1) | {f.CLICK: click, f.CONVERSION: np.zeros(rows, np.int64)}
    by_user = _counts(tmp_path, columns)
    by_request = _counts(tmp_path, columns | {f.USER_ID: texts([""] * rows)})
    assert by_user.click_spread == pytest.approx(40, rel=0.35)
    assert by_request.click_spread == pytest.approx(10, rel=0.35)
