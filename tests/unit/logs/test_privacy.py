"""Nobody in a log can be found in what ingest writes."""

import gzip
import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heft.errors import ConfigError, DataError
from heft.logs import LogsSettings, input_fingerprint, preflight
from heft.logs.privacy import KEY_VARIABLE, pseudonym, pseudonyms, redact, redacted
from heft.logs.sampling import sample_log
from tests.unit.logs.logbook import put, put_shop, read_quarantine, shop
from tests.unit.logs.test_ingest import _examples, _run

KEY = b"sixteen letters!"
ALL = ("email", "phone", "card")
PERSONS = ["Canary-User-1", "canary-town-2"]
TYPED = ["canary3@example.org", "+49 30 555 0144", "4111 1111 1111 1111"]


def _log(root: Path, suffix: str) -> dict[str, Any]:
    """A log with canaries in columns of persons, in queries, and in rows that are rejected."""
    log = shop(60)
    for row in log["impressions"]:
        row["town"] = PERSONS[1]
        row["note"] = "canary-unmapped-4"
    for number, row in enumerate(log["impressions"][:30]):
        row["user_id"] = PERSONS[0]
        row["query"] = f"garden hose {TYPED[number % 3]} green"
    rejected = [row | {"position": 0} for row in log["impressions"][:2]]
    rejected += [row | {"timestamp": -1} for row in log["impressions"][:2]]
    put_shop(root, log, suffix)
    put(root, f"impressions/span-1/z{suffix}", rejected)
    if suffix != ".parquet":
        raw = b'{"user_id": "Canary-User-1", broken canary3@example.org\n' * 2
        put(root, f"impressions/span-1/y{suffix}", (root / f"impressions/span-1/z{suffix}")
            .read_bytes() + raw)  # fmt: skip
        put(root, f"clicks/span-1/y{suffix}", [
            {"impression_id": "i1", "timestamp": PERSONS[0], "user_id": PERSONS[0]}
        ])  # fmt: skip
    return {
        "root": str(root), "categorical": ("town",), "max_quarantine_rate": 0.1,
        "privacy": {"pii": ["town"], "redact": ALL},
    }  # fmt: skip


def _unpacked(folder: Path) -> bytes:
    """Every byte under a folder, as it is and decompressed."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    return b"".join([*files, *(gzip.decompress(d) for d in files if d[:2] == b"\x1f\x8b")])


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_no_canary_leaves_ingest(
    tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    log = _log(tmp_path / "log", suffix)
    report = _run(tmp_path / "out", **log)
    sample = sample_log(LogsSettings(**log))
    said = repr(sample) + caplog.text + "".join(capfd.readouterr())
    everything = _unpacked(tmp_path / "out") + said.encode() + report.model_dump_json().encode()
    for canary in (*PERSONS, *TYPED, "canary-unmapped-4", "5550144", "1111 1111"):
        assert canary.encode() not in everything, canary
    rows = {row["impression_id"]: row for row in _examples(tmp_path / "out")}
    assert len({row["user_id"] for row in rows.values()}) == 1 + 7
    assert {len(row["town"]) for row in rows.values()} == {43}
    queries = {row["query"] for row in rows.values()}
    assert {b"garden hose <email> green", b"garden hose <phone> green",
            b"garden hose <card> green"} <= queries  # fmt: skip
    assert sample.redacted == 30
    kept = read_quarantine(tmp_path / "out/quarantine")
    assert len(kept) == report.rows_quarantined
    assert {row["reason"] for row in kept} >= {"position: below 1"}


def test_a_rejected_row_still_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    _run(tmp_path / "out", **_log(tmp_path / "log", ".jsonl"))
    kept = read_quarantine(tmp_path / "out/quarantine")
    first = next(row for row in kept if row["reason"] == "position: below 1")
    shown = json.loads(first["raw"])
    assert shown["position"] in (0, "0") and shown["impression_id"] == "i1"
    assert "note" not in shown and len(shown["user_id"]) == 43
    broken = next(row for row in kept if row["reason"].startswith("malformed"))
    assert broken["raw"] == "<withheld: 55 bytes>"
    click = next(row for row in kept if row["stream"] == "clicks")
    assert json.loads(click["raw"])["timestamp"] == f"<{len(PERSONS[0])} characters>"


def test_a_rejected_grade_keeps_no_address(tmp_path: Path) -> None:
    grades = [{"query": f"mail {TYPED[0]}", "item_id": f"p{n}", "grade": -(n == 0)}
              for n in range(40)]  # fmt: skip
    root = put_shop(tmp_path / "log", shop(60) | {"grades": grades})
    settings = {"grades": {"path": "grades/*"}, "privacy": {"redact": ("email",)}}
    _run(tmp_path / "out", root=str(root), **settings)
    (row,) = read_quarantine(tmp_path / "out/quarantine")
    assert row["stream"] == "grades" and json.loads(row["raw"])["query"] == "mail <email>"


@pytest.mark.parametrize("key", [None, "", "short"])
def test_people_and_no_key_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    if key is not None:
        monkeypatch.setenv(KEY_VARIABLE, key)
    root = str(put_shop(tmp_path / "log", shop()))
    with pytest.raises(ConfigError, match=f"user_id must leave .* {KEY_VARIABLE} .*16 characters"):
        _run(tmp_path / "out", root=root)
    assert not (tmp_path / "out").exists()
    for row in (log := shop())["impressions"]:
        del row["user_id"]
    # Nobody to hide, no key needed.
    _run(tmp_path / "out", root=str(put_shop(tmp_path / "nobody", log)))


def test_another_variable_and_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(put_shop(tmp_path / "log", shop()))
    settings = LogsSettings(root=root, privacy={"key_variable": "OUR_KEY"})
    with pytest.raises(ConfigError, match="OUR_KEY is not set"):
        preflight(settings)
    prints = set()
    for number, key in enumerate(("a" * 16, "b" * 16)):
        monkeypatch.setenv("OUR_KEY", key)
        prints.add(input_fingerprint(settings))
        _run(tmp_path / f"out{number}", root=root, privacy={"key_variable": "OUR_KEY"})
    assert len(prints) == 2, "another key makes other examples, so no cached ones"
    first, second = ({row["user_id"] for row in _examples(tmp_path / f"out{k}")} for k in (0, 1))
    assert len(first) == len(second) == 7 and not first & second


_values = st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=20), max_size=20)


@settings(max_examples=100, deadline=None)
@given(_values, st.binary(min_size=16, max_size=90))
def test_pseudonyms_are_hmac_sha_256(values: list[str | None], key: bytes) -> None:
    found = pseudonyms(pa.array(values, pa.string()), key).to_pylist()
    for value, hashed in zip(values, found, strict=True):
        if value is None or not value.strip():
            assert hashed == value
            continue
        digest = hmac.new(key, value.encode(), hashlib.sha256).digest()
        assert hashed == urlsafe_b64encode(digest).decode().rstrip("=") == pseudonym(value, key)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("mail jo.doe+x@example.co.uk now", "mail <email> now"),
        ("4111 1111 1111 1111", "<card>"),
        ("visa 5500-0000-0000-0004 ok", "visa <card> ok"),
        ("378282246310005", "<card>"),
        ("sheets 3 4111 1111 1111 1111", "sheets 3 <card>"),
        ("3 4111-1111-1111-1111 90 5500000000000004", "3 <card> 90 <card>"),
        ("+1 (555) 123-4567", "<phone>"),
        ("call 0171/1234567 today", "call <phone> today"),
        ("(030) 555 0144", "<phone>"),
        ("555-123-4567", "<phone>"),
        # None of these is anyone's.
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("ean 4006381333931", "ean 4006381333931"),
        ("iphone 12 64gb", "iphone 12 64gb"),
        ("screw 30x40 din 7991 100 pcs", "screw 30x40 din 7991 100 pcs"),
        ("2026-03-01 1234567890", "2026-03-01 1234567890"),
        ("price 1.299.000,50", "price 1.299.000,50"),
        ("@home speaker", "@home speaker"),
        ("", ""),
    ],
)
def test_what_is_taken_out_of_a_query(text: str, cleaned: str) -> None:
    assert redact(text, ALL) == cleaned
    assert redacted(pa.array([text, None, text]), ALL).to_pylist() == [cleaned, None, cleaned]
    assert redact(text, ()) == text


@settings(max_examples=100, deadline=None)
@given(st.integers(10**12, 10**18 - 1), st.integers(0, 9))
def test_one_check_digit_of_ten_makes_a_card(digits: int, wrong: int) -> None:
    cards = [k for k in range(10) if redact(f"{digits}{k}", ("card",)) == "<card>"]
    assert len(cards) == 1
    if wrong != cards[0]:
        assert redact(f"{digits}{wrong}", ("card",)) == f"{digits}{wrong}"


def test_the_fast_search_misses_nothing(tmp_path: Path) -> None:
    texts = [f"{a}{sep}{b}" for a in ("+49", "0", "(030)", "41") for sep in " -./" for b in (
        "123 4567", "1234567", "11 22 33 44", "555-0144", "1111 1111 1111 11")]  # fmt: skip
    assert redacted(pa.array(texts), ALL).to_pylist() == [redact(text, ALL) for text in texts]


@pytest.mark.parametrize(
    ("privacy", "message"),
    [
        ({"pii": ["query"]}, r"privacy.pii=\['query'\] cannot leave as hashes: expected some of"),
        ({"pii": ["price"]}, "a number is listed under `categorical`"),
        ({"pii": ["nobody"]}, "expected some of"),
        ({"redact": ["names"]}, "email"),
        ({"key_variable": "a key"}, "key_variable"),
    ],
)
def test_settings_that_hide_nothing(privacy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LogsSettings(root="/x", privacy=privacy)


def test_a_column_of_persons_that_is_not_there(tmp_path: Path) -> None:
    root = str(put_shop(tmp_path, shop()))
    with pytest.raises(DataError, match=r"'brand' is named in `privacy.pii`, and no stream has it"):
        preflight(LogsSettings(root=root, catalogue=None, privacy={"pii": ["brand"]}))


def test_a_message_about_a_column_shows_nobody(tmp_path: Path) -> None:
    log = shop()
    for row in log["impressions"]:
        row["position"] = PERSONS[0]
    with pytest.raises(DataError, match=r"position: .*the first is text of 13 characters") as told:
        preflight(LogsSettings(root=str(put_shop(tmp_path, log))))
    assert PERSONS[0] not in str(told.value)


def test_ids_of_impressions_may_be_hidden_and_still_join(tmp_path: Path) -> None:
    root = str(put_shop(tmp_path / "log", shop()))
    report = _run(tmp_path / "out", root=root, privacy={"pii": ["impression_id", "item_id"]})
    rows = _examples(tmp_path / "out")
    assert sum(row["click"] for row in rows) == report.streams["clicks"].written == 30
    assert report.unknown_items == 0
    assert {len(row["impression_id"]) for row in rows} == {43}
