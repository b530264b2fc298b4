"""Log files as they land: what becomes of each."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heft.errors import ConfigError
from heft.logs.files import stream_files
from heft.logs.preflight import preflight
from heft.logs.reading import read_batches
from heft.logs.settings import LogsSettings
from heft.streaming.inbox import Inbox, MicroBatch
from heft.streaming.settings import StreamingSettings
from tests.unit.streaming.shop import NOW, Shop, impressions


def test_settled_files_become_a_span_that_a_run_can_read(shop: Shop) -> None:
    inbox = shop.open()
    shop.page(1, conversions=2)
    fresh = shop.land("impressions", impressions(9), age=3)
    hidden = shop.land("clicks", [], name=".being-written")
    batch = inbox.take(NOW)
    assert batch == MicroBatch(
        1, {"conversions": 1, "clicks": 1, "impressions": 1},
        {"conversions": 2, "clicks": 1, "impressions": 5}, 2, {},
    )  # fmt: skip
    assert fresh.exists()
    assert hidden.exists()
    assert inbox.spans() == [1]
    assert preflight(shop.logs).span == 1
    assert inbox.take(NOW) is None
    assert inbox.take(NOW + 8).span == 2


@pytest.mark.parametrize("root", ["./logs", "logs/"])
def test_spans_are_seen_however_the_root_is_spelled(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(shop.root.parent)
    shop.logs = shop.logs.model_copy(update={"root": root})
    inbox = shop.open()
    for number in (1, 2):
        shop.page(number)
        assert inbox.take(NOW).span == number
    assert inbox.spans() == [1, 2]
    assert preflight(shop.logs).span == 2


def test_a_span_without_clicks_says_so_and_can_be_read(shop: Shop) -> None:
    inbox = shop.open()
    shop.land("impressions", impressions(1))
    assert inbox.take(NOW).rows == {"impressions": 5}
    looked = preflight(shop.logs)
    assert looked.files == {"impressions": 1, "clicks": 1, "conversions": 1, "catalogue": 1}


def test_an_empty_file_of_every_format_can_be_read(tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "parquet"):
        shop = Shop(tmp_path / kind, clicks={"path": f"clicks/span-{{SPAN}}/*.{kind}"})
        inbox = shop.open()
        shop.land("impressions", impressions(1))
        inbox.take(NOW)
        assert f"clicks/span-1/none.{kind}" in shop.files()
        assert preflight(shop.logs).files["clicks"] == 1


def test_clicks_wait_for_the_next_impressions(shop: Shop) -> None:
    inbox = shop.open()
    shop.page(1)
    inbox.take(NOW)
    shop.land("clicks", [{"impression_id": "1-1", "timestamp": 30}])
    assert inbox.take(NOW) is None
    shop.page(2)
    assert inbox.take(NOW).files == {"impressions": 1, "clicks": 2, "conversions": 0}
    assert inbox.spans() == [1, 2]


@pytest.mark.parametrize(
    ("stream", "content", "name", "said"),
    [
        ("impressions", b"PAR1 but not really", "broken.parquet", "cannot be read"),
        ("impressions", b'{"wrong": 1}\n', "wrong.jsonl", "impression_id"),
        ("clicks", b"{}\n", "clicks.unknown", "cannot tell the format"),
    ],
)
def test_a_file_that_cannot_be_read_is_put_aside_with_the_reason(
    shop: Shop, stream: str, content: bytes, name: str, said: str
) -> None:
    inbox = shop.open()
    path = shop.land(stream, content, name=name)
    shop.page(1)
    batch = inbox.take(NOW)
    assert batch.rows["impressions"] == 5
    assert said in batch.rejected[f"{stream}/{name}"]
    aside = shop.inbox / "rejected" / stream
    assert not path.exists()
    assert (aside / name).read_bytes() == content
    assert said in (aside / f"{name}.reason.txt").read_text()
    assert preflight(shop.logs).span == 1


def test_a_file_that_the_log_would_overlook_is_put_aside(tmp_path: Path) -> None:
    shop = Shop(tmp_path, impressions={"path": "impressions/span-{SPAN}/*.csv"})
    inbox = shop.open()
    shop.land("impressions", impressions(1), name="a.jsonl")
    batch = inbox.take(NOW)
    assert "expected a name like *.csv" in batch.rejected["impressions/a.jsonl"]
    assert inbox.spans() == []


def test_brackets_of_a_log_stand_for_themselves(tmp_path: Path) -> None:
    """A file that the log would overlook is put aside, and what it would find is moved."""
    shop = Shop(tmp_path, impressions={"path": "i/span-{SPAN}/[ab]*"})
    inbox = shop.open()
    shop.land("impressions", impressions(1), name="a.jsonl")
    shop.land("impressions", impressions(2), name="[ab].jsonl")
    batch = inbox.take(NOW)
    assert list(batch.rejected) == ["impressions/a.jsonl"]
    assert batch.rows == {"impressions": 5}
    assert len(stream_files(shop.logs, "impressions", inbox.spans())) == 1


def test_a_name_that_comes_again_does_not_overwrite(tmp_path: Path) -> None:
    shop = Shop(tmp_path, clicks={"path": "clicks/*"})
    inbox = shop.open()
    for number in (1, 2):
        shop.land("impressions", impressions(number))
        shop.land("clicks", [{"impression_id": f"{number}-0", "timestamp": 5}], name="c.jsonl")
        inbox.take(NOW)
    assert {"clicks/c.jsonl", "clicks/2-c.jsonl"} <= shop.files()


@pytest.mark.parametrize("base", ["*", "part-*.jsonl", "p?rt-*-*.jsonl"])
def test_no_click_is_lost_whatever_names_come_again_and_whenever_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """Three files of one name for one span, two of them moved by streams that were killed."""
    shop = Shop(tmp_path, clicks={"path": f"clicks/{base}"})
    real = os.rename

    def killed(source: Path, target: Path) -> None:
        if "impressions" in str(target):
            raise KeyboardInterrupt
        real(source, target)

    for number in range(4):
        inbox = shop.open()
        rows = [{"impression_id": f"1-{number}", "timestamp": 5}]
        shop.land("clicks", rows, name="part-0-x.jsonl")
        if number in (0, 3):
            shop.land("impressions", impressions(number))
        with monkeypatch.context() as patch:
            if number in (1, 2):
                patch.setattr("heft.streaming.inbox.os.rename", killed)
                shop.land("impressions", impressions(number), name="again.jsonl")
                with pytest.raises(KeyboardInterrupt):
                    inbox.take(NOW)
            else:
                assert inbox.take(NOW) is not None
    files = stream_files(shop.logs, "clicks", inbox.spans())
    lines = [line for file in files for line in Path(file.path).read_text().splitlines()]
    rows = map(json.loads, lines)
    assert sorted(row["impression_id"] for row in rows) == ["1-0", "1-1", "1-2", "1-3"]


def test_a_file_that_is_put_aside_does_not_overwrite_another(shop: Shop) -> None:
    inbox = shop.open()
    for content in (b"first", b"second"):
        shop.land("impressions", content, name="broken.parquet")
        inbox.take(NOW)
    aside = shop.inbox / "rejected" / "impressions"
    assert (aside / "broken.parquet").read_bytes() == b"first"
    assert (aside / "1-broken.parquet").read_bytes() == b"second"
    assert (aside / "1-broken.parquet.reason.txt").is_file()


@pytest.mark.parametrize("moment", ["pathlib.Path.is_file", "heft.streaming.inbox.read_batches"])
def test_a_file_that_goes_while_it_is_looked_at_is_left_to_whoever_took_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """As one that gets its last name by a rename."""
    inbox = shop.open()
    gone = shop.land("impressions", impressions(9), name="half-written.jsonl")
    real = {"is_file": Path.is_file, "read_batches": read_batches}[moment.rsplit(".", 1)[1]]

    def look(place: Any, *arguments: Any) -> Any:
        if Path(getattr(place, "path", place)) != gone:
            return real(place, *arguments)
        found = real(place, *arguments) if moment.endswith("is_file") else None
        gone.unlink(missing_ok=True)
        return found if moment.endswith("is_file") else real(place, *arguments)

    monkeypatch.setattr(moment, look)
    assert inbox.take(NOW) is None
    monkeypatch.undo()
    assert not gone.exists()
    assert not (shop.inbox / "rejected").exists()
    shop.page(1)
    assert inbox.take(NOW).rejected == {}


def test_a_move_that_was_cut_off_goes_on_with_the_same_span(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = shop.open()
    shop.page(1, conversions=1)
    real = os.rename

    def killed(source: Path, target: Path) -> None:
        if "impressions" in str(target):
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("heft.streaming.inbox.os.rename", killed)
    with pytest.raises(KeyboardInterrupt):
        inbox.take(NOW)
    assert inbox.spans() == []
    monkeypatch.undo()
    again = shop.open()
    assert again.take(NOW).span == 1
    rows = [line for path in (shop.root / "clicks/span-1").iterdir()
            for line in path.read_text().splitlines()]  # fmt: skip
    assert len(rows) == 1
    assert again.conversions_after(None) == 1


def test_conversions_are_counted_wherever_the_log_has_them(tmp_path: Path) -> None:
    shop = Shop(
        tmp_path, label_column="clicked", conversion_column="bought",
        impressions={"path": "impressions/span-{SPAN}/*"},
    )  # fmt: skip
    inbox = shop.open()
    rows = [row | {"clicked": 1, "bought": i % 2} for i, row in enumerate(impressions(1))]
    table = pa.Table.from_pylist(rows)
    path = shop.inbox / "impressions" / "a.parquet"
    pq.write_table(table, path)
    os.utime(path, (NOW - 60, NOW - 60))
    assert inbox.take(NOW).conversions == 2
    assert inbox.conversions_after(0) == 2
    assert inbox.conversions_after(1) == 0


@pytest.mark.parametrize(
    ("logs", "stream", "said"),
    [
        ({}, {"inbox": None}, "stream.inbox is not set"),
        ({"root": "s3://logs"}, {}, "folders of a disk"),
        ({"impressions": {"path": "impressions/*"}}, {}, "write {SPAN}"),
        ({"impressions": {"path": "i/{YYYY}-{MM}-{DD}/*"}}, {}, "write {SPAN}"),
        ({"impressions": {"path": "i/span-{SPAN}.csv"}}, {}, "in a folder's name alone"),
        ({"impressions": {"path": "*/span-{SPAN}/*"}}, {}, "at the end alone"),
        ({"clicks": {"path": "clicks/span-{SPAN}/clicks.csv"}}, {}, "a pattern at the end"),
    ],
)
def test_what_cannot_be_streamed_is_said(
    tmp_path: Path, logs: dict[str, Any], stream: dict[str, Any], said: str
) -> None:
    settings = StreamingSettings.model_validate({"inbox": str(tmp_path), **stream})
    with pytest.raises(ConfigError, match=said):
        Inbox(LogsSettings.model_validate({"root": str(tmp_path), **logs}), settings)
