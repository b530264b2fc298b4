"""Flags, views, splits by hash and sampled negatives, on files as a run has them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from heft.errors import DataError
from heft.logs import LogsSettings
from heft.logs.report import IngestReport
from tests.unit.logs.logbook import START, put_shop, read_examples, shop
from tests.unit.logs.test_ingest import _digests, _examples, _run


def _flagged(suffix: str) -> dict[str, list[dict[str, Any]]]:
    """The shop, with clicks and orders in the impressions; half of an id's rows say so."""
    log = shop(60)
    clicked = {row["impression_id"] for row in log.pop("clicks")}
    bought = {row["impression_id"] for row in log.pop("conversions")}
    for row in log["impressions"]:
        row["was_clicked"] = row["impression_id"] in clicked
        row["order"] = {"done": row["impression_id"] in bought or row["impression_id"] == "i1"}
        row["conversion_value"] = 7.5
        if suffix == ".csv":
            row["order.done"] = row.pop("order")["done"]
    log["impressions"] += [
        row | {"was_clicked": False, "timestamp": row["timestamp"] - 1}
        for row in log["impressions"][:40]
    ]
    return log


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_what_happened_may_be_flagged_in_the_impressions(tmp_path: Path, suffix: str) -> None:
    root = str(put_shop(tmp_path / "log", _flagged(suffix), suffix))
    report = _run(
        tmp_path / "out", root=root, label_column="was_clicked", conversion_column="order.done"
    )
    plain = {row["impression_id"]: row for row in _reference(tmp_path)}
    rows = _examples(tmp_path / "out")
    assert len(rows) == len(plain) == 180 and report.streams["impressions"].duplicates == 40
    for row in rows:
        own = plain[row["impression_id"]]
        assert (row["click"], row["conversion"]) == (own["click"], own["conversion"])
        assert row["click_delay"] == row["conversion_delay"] == -1
        assert row["conversion_value"] == (7.5 if row["conversion"] else 0)
    assert report.notes == {"unclicked flags": 1}
    assert set(report.streams) == {"impressions", "catalogue"}


def _reference(tmp_path: Path) -> list[dict[str, Any]]:
    _run(tmp_path / "plain", root=str(put_shop(tmp_path / "streams", shop(60))))
    return _examples(tmp_path / "plain")


def test_orders_may_follow_upon_flagged_clicks(tmp_path: Path) -> None:
    log = _flagged(".jsonl") | {"conversions": shop(60)["conversions"]}
    root = str(put_shop(tmp_path / "log", log))
    report = _run(tmp_path / "out", root=root, label_column="was_clicked", history=3)
    bought = [row for row in _examples(tmp_path / "out") if row["conversion"]]
    assert len(bought) == report.streams["conversions"].written == 15
    # From the impression: when the click was, nobody wrote down; a copy came a ms earlier.
    assert {round(row["conversion_delay"]) for row in bought} == {65}
    assert any("history" in row for row in _examples(tmp_path / "out"))


def test_views_are_credited_only_if_asked(tmp_path: Path) -> None:
    log = shop(60)
    log["conversions"].append(
        {"impression_id": "i1", "timestamp": START + 9_000, "value": 3.0}
    )  # nobody clicked i1
    root = str(put_shop(tmp_path / "log", log))
    off = _run(tmp_path / "off", root=root)
    assert off.streams["conversions"].unattributed == {"unclicked": 1} and off.notes is None
    on = _run(tmp_path / "on", root=root, view_window=10)
    assert on.streams["conversions"].unattributed == {} and on.notes == {"view-through": 1}
    (row,) = [row for row in _examples(tmp_path / "on") if row["impression_id"] == b"i1"]
    assert (row["click"], row["conversion"], row["conversion_delay"]) == (0, 1, 9.0)
    assert row["conversion_value"] == 3.0


@pytest.mark.parametrize("by", ["request", "user"])
def test_by_hash_no_request_straddles_two_splits(tmp_path: Path, by: str) -> None:
    """Rows of a page have several users, lie hours apart, and disagree on whether it was
    shuffled."""
    log = shop(240)
    for number, row in enumerate(log["impressions"]):
        row["user_id"] = ("", None, f"u{number % 50}", f"u{number // 3 % 50}")[number % 4]
        row["timestamp"] += number % 3 * 7_200_000
        row["randomised"] = number % 17 == 0
    root = str(put_shop(tmp_path / "log", log))
    report = _run(tmp_path / "out", root=root, splits={"by": by, "tune": 0.2, "natural": 0.3})
    rows = _examples(tmp_path / "out")
    splits: dict[bytes, set[str]] = {}
    for row in rows:
        splits.setdefault(row["request_id"], set()).add(row["split"])
    assert len(rows) == 720 and all(len(found) == 1 for found in splits.values())
    assert set(report.splits) == {"train", "tune", "natural", "harvest", "shuffled"}


def test_by_user_no_user_straddles_two_splits(tmp_path: Path) -> None:
    log = shop(240)
    for number, row in enumerate(log["impressions"]):
        row["user_id"] = f"u{number // 3 % 60}"
        row["randomised"] = False
    root = str(put_shop(tmp_path / "log", log))
    _run(tmp_path / "out", root=root, splits={"by": "user", "tune": 0.2, "natural": 0.3})
    splits: dict[bytes, set[str]] = {}
    for row in _examples(tmp_path / "out"):
        splits.setdefault(row["user_id"], set()).add(row["split"])
    assert len(splits) == 60 and all(len(found) == 1 for found in splits.values())
    for row in log["impressions"]:
        del row["user_id"]
    nobody = str(put_shop(tmp_path / "nobody", log))
    with pytest.raises(DataError, match=r"splits.by=user, and .* no column 'user_id'"):
        _run(tmp_path / "out2", root=nobody, splits={"by": "user"})


def _sampled(tmp_path: Path, rate: float) -> tuple[IngestReport, list[dict[str, Any]]]:
    log = shop(600)
    for row in log["impressions"]:
        row["randomised"] = False
    root = str(put_shop(tmp_path / "log", log))
    out = tmp_path / f"out{rate}"
    return _run(out, root=root, negative_rate=rate, click_window=1e9), _examples(out)


def test_negatives_are_sampled_by_request_and_only_in_train(tmp_path: Path) -> None:
    whole, all_rows = _sampled(tmp_path, 1.0)
    report, rows = _sampled(tmp_path, 0.25)
    assert not any("sampling" in row for row in all_rows)
    kept = {row["impression_id"] for row in rows}
    dropped: dict[bytes, Counter[str]] = {}
    for row in all_rows:
        if row["click"] or row["split"] != "train":
            assert row["impression_id"] in kept
        else:
            found = dropped.setdefault(row["request_id"], Counter())
            found["kept" if row["impression_id"] in kept else "dropped"] += 1
    # A request's unclicked rows stay or go together. Binomial(420, .25): six deviations are 53.
    assert all(len(found) == 1 for found in dropped.values())
    stay = sum("kept" in found for found in dropped.values())
    assert abs(stay - 0.25 * len(dropped)) < 53
    for row in rows:
        drawn = row["split"] == "train" and not row["click"]
        assert row["sampling"] == (0.25 if drawn else 1.0)
    own = report.streams["impressions"]
    assert own.unattributed == {"sampled out": len(all_rows) - len(rows)}
    assert own.written == len(rows) == sum(report.splits.values())
    assert {s: n for s, n in report.splits.items() if s != "train"} == {
        s: n for s, n in whole.splits.items() if s != "train"
    }


def test_weights_of_sampled_negatives_sum_to_those_of_the_whole_log(tmp_path: Path) -> None:
    _, all_rows = _sampled(tmp_path, 1.0)
    _, rows = _sampled(tmp_path, 0.5)
    expected = sum(not row["click"] for row in all_rows if row["split"] == "train")
    negatives = [row for row in rows if row["split"] == "train" and not row["click"]]
    # 420 requests of two or three such rows, each twice or never: six deviations are 290.
    assert abs(sum(1 / row["sampling"] for row in negatives) - expected) < 290


def test_sampled_logs_have_the_same_bytes_again(tmp_path: Path) -> None:
    _sampled(tmp_path, 0.25)
    again = tmp_path / "again"
    _run(again, root=str(tmp_path / "log"), negative_rate=0.25, click_window=1e9)
    assert _digests(again) == _digests(tmp_path / "out0.25")
    assert read_examples(again / "Split-train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "c", "clicks": {"path": "x"}}, "label_column='c' says what the stream"),
        ({"clicks": None}, "conversions are attributed to clicks"),
        ({"clicks": None, "conversion_column": "b"}, "name the clicks stream or a label_column"),
        ({"negative_rate": 0}, "greater than 0"),
        ({"view_window": 0}, "greater than 0"),
        ({"click_attribution": "middle"}, "first"),
        ({"splits": {"by": "hour"}}, "time"),
    ],
)
def test_options_that_contradict_themselves(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LogsSettings(root="/x", **settings)
