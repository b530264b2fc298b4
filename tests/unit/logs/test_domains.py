"""Configs of other trades: nothing but a mapping of columns, run on logs as those trades have."""

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heft import features
from heft.logs.ingest import ingest
from heft.logs.sampling import sample_log
from pipeline.config import load
from tests.unit.logs.logbook import put, shop
from tests.unit.logs.test_ingest import _examples

CONFIGS = Path(__file__).parents[3] / "pipeline/configs"
Log = dict[str, list[dict[str, Any]]]


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1_000, UTC).isoformat()


def _ads(root: Path, log: Log) -> None:
    rows = [
        {"imp_id": r["impression_id"], "auction_id": r["request_id"],
         "device": {"ifa": r["user_id"], "type": r["device"]},
         "creative": {"id": r["item_id"], "headline": f"headline {r['item_id']}"},
         "campaign": "spring", "advertiser": "ACME", "bid": 0.25, "keyword": r["query"],
         "slot": r["position"], "ts": r["timestamp"] // 1_000, "randomised": r["randomised"]}
        for r in log["impressions"]
    ]  # fmt: skip
    put(root, "served/dt=2026-03-01/part-0.jsonl.gz", rows)
    for stream, folder in (("clicks", "clicks"), ("conversions", "postbacks")):
        events = [
            {"imp_id": r["impression_id"], "ts": r["timestamp"] // 1_000, "payout": 9.5}
            for r in log[stream]
        ]
        put(root, f"{folder}/dt=2026-03-01/part-0.parquet", events)


def _content(root: Path, log: Log) -> None:
    clicked = {r["impression_id"] for r in log["clicks"]}
    rows = [
        {"event_id": r["impression_id"], "feed_load_id": r["request_id"], "reader": r["user_id"],
         "article_id": r["item_id"], "reading": {"headline": r["query"]}, "place": r["position"],
         "at": _iso(r["timestamp"]), "client": {"surface": r["device"]},
         "opened": r["impression_id"] in clicked, "randomised": r["randomised"]}
        for r in log["impressions"]
    ]  # fmt: skip
    put(root, "shown/20260301/part-0.jsonl.zst", rows)
    put(root, "finished/20260301/part-0.jsonl", [
        {"event_id": r["impression_id"], "at": _iso(r["timestamp"])} for r in log["conversions"]
    ])  # fmt: skip
    put(root, "articles/all.parquet", [
        {"article_id": r["item_id"], "headline": r["title"], "section": r["category"],
         "author": "A. Writer", "words": 400.0} for r in log["catalogue"]
    ])  # fmt: skip


def _support(root: Path, log: Log) -> None:
    clicked, solved = ({r["impression_id"] for r in log[s]} for s in ("clicks", "conversions"))
    rows = [
        {"suggestion_id": r["impression_id"], "ticket_id": r["request_id"],
         "customer.email": f"{r['user_id']}@example.org", "customer.product": r["device"],
         "article": r["item_id"], "question": f"{r['query']}, call +49 30 555 0144",
         "rank": r["position"], "asked_at": r["timestamp"], "handled_by": "Jo Doe",
         "randomised": r["randomised"], "article_opened": r["impression_id"] in clicked,
         "ticket_solved": r["impression_id"] in solved}
        for r in log["impressions"]
    ]  # fmt: skip
    put(root, "suggestions/week-9/part-0.csv", rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["article", "title", "topic"])
    writer.writeheader()
    writer.writerows(
        {"article": r["item_id"], "title": r["title"], "topic": r["category"]}
        for r in log["catalogue"]
    )
    put(root, "articles.csv", text.getvalue().encode())


def _finance(root: Path, log: Log) -> None:
    for stream, folder, at in (
        ("impressions", "offers_shown", "shown_at"),
        ("clicks", "offers_opened", "opened_at"),
        ("conversions", "applications_approved", "approved_at"),
    ):
        rows = [{"offer_view_id": r["impression_id"], at: r["timestamp"] * 1_000}
                for r in log[stream]]  # fmt: skip
        if stream == "impressions":
            rows = [
                row | {"session_id": r["request_id"], "offer_code": r["item_id"],
                       "client": {"number": r["user_id"], "age_band": "30-39"},
                       "need": f"{r['query']} 4111 1111 1111 1111", "slot": r["position"],
                       "channel": r["device"], "randomised": r["randomised"]}
                for row, r in zip(rows, log[stream], strict=True)
            ]  # fmt: skip
        elif stream == "conversions":
            rows = [row | {"amount": 12_000.0} for row in rows]
        put(root, f"{folder}/2026-03-01/part-0.parquet", rows)
    text = io.StringIO()
    writer = csv.writer(text)
    names = ("offer_code", "offer_name", "product_line", "issuer", "yearly_fee", "interest_rate")
    writer.writerow(names)
    writer.writerows(
        (r["item_id"], r["title"], r["category"], "Own Bank", 24.0, 3.9) for r in log["catalogue"]
    )
    put(root, "offers.csv", text.getvalue().encode())


@pytest.mark.parametrize(
    ("name", "write", "clicks", "conversions"),
    [
        ("ads", _ads, 60, 20), ("content", _content, 60, 20), ("support", _support, 60, 20),
        ("finance", _finance, 60, 20),
    ],
)  # fmt: skip
def test_a_config_of_another_trade_runs_on_its_log(
    tmp_path: Path, name: str, write: Callable[[Path, Log], None], clicks: int, conversions: int
) -> None:
    log = shop(80)
    for row in log["impressions"]:
        row["user_id"] = f"u{int(row['request_id'][1:]) % 40}"
    write(tmp_path / name, log)
    config = load(CONFIGS / f"{name}.yaml", data_dir=tmp_path)
    assert not any(stream.rejected for stream in sample_log(config.logs).streams.values())
    out = tmp_path / "out"
    uris = {split: str(out / f"Split-{split}") for split in features.SPLITS}
    report = ingest(config.logs, uris, str(out / "quarantine"))
    rows = _examples(out)
    assert len(rows) == 240 and report.rows_quarantined == report.unknown_items == 0
    assert sum(row["click"] for row in rows) == clicks
    assert sum(row["conversion"] for row in rows) == conversions
    assert {"train", "tune", "natural"} <= set(report.splits)
    used = (*config.transform.categorical, *config.transform.numeric, features.TITLE)
    for column in used:
        assert all(row[column] not in (b"", None) for row in rows), column
    if name == "support":
        assert all(row["query"].endswith(b", call <phone>") for row in rows)
        said = json.dumps([row["agent"].decode() for row in rows])
        assert "Jo Doe" not in said
    if name == "finance":
        assert all(b"4111" not in row["query"] for row in rows)
        assert all(row["age_band"] == b"30-39" for row in rows)
