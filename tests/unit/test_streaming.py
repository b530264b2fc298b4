"""Log files as they land: what becomes of each, and when a model is trained."""

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
from heft.streaming.follow import Outcome, Window, follow
from heft.streaming.inbox import Inbox, MicroBatch
from heft.streaming.settings import StreamingSettings
from heft.streaming.state import StreamState

NOW = 1_000_000.0


class Shop:
    """A log, an inbox, and files that land there."""

    def __init__(self, folder: Path, **logs: Any) -> None:
        self.root, self.inbox = folder / "logs", folder / "inbox"
        (self.root / "catalogue").mkdir(parents=True)
        items = [{"item_id": f"p{i}", "title": f"lamp {i}"} for i in range(5)]
        self._write(self.root / "catalogue" / "items.jsonl", items)
        self.logs = LogsSettings.model_validate({"root": str(self.root), **logs})
        self.settings = StreamingSettings(inbox=str(self.inbox), settle_seconds=10)
        self.state = folder / "stream.json"
        self.landed = 0

    def open(self, **settings: Any) -> Inbox:
        self.settings = self.settings.model_copy(update=settings)
        return Inbox(self.logs, self.settings)

    def land(
        self, stream: str, rows: list[dict[str, Any]] | bytes, age: float = 60, name: str = ""
    ) -> Path:
        self.landed += 1
        path = self.inbox / stream / (name or f"{stream}-{self.landed}.jsonl")
        if isinstance(rows, bytes):
            path.write_bytes(rows)
        else:
            self._write(path, rows)
        os.utime(path, (NOW - age, NOW - age))
        return path

    def page(self, number: int, conversions: int = 0) -> None:
        """Five impressions, a click on the first, and conversions."""
        self.land("impressions", impressions(number))
        self.land("clicks", [{"impression_id": f"{number}-0", "timestamp": 10}])
        if conversions:
            rows = [{"impression_id": f"{number}-{i}", "timestamp": 20} for i in range(conversions)]
            self.land("conversions", rows)

    @staticmethod
    def _write(path: Path, rows: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


def impressions(number: int) -> list[dict[str, Any]]:
    return [
        {"impression_id": f"{number}-{i}", "request_id": f"r{number}", "item_id": f"p{i}",
         "query": "lamp", "position": i + 1, "timestamp": number}
        for i in range(5)
    ]  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


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


class Trainer:
    """Notes what it is trained on."""

    def __init__(self, version: int | None = 1) -> None:
        self.windows: list[Window] = []
        self.version = version

    def __call__(self, window: Window) -> Outcome:
        self.windows.append(window)
        return Outcome(self.version, "" if self.version else "a gate")


def _look(shop: Shop, trainer: Trainer, now: float = NOW, **settings: Any) -> None:
    inbox = shop.open(**settings)
    follow(inbox, shop.settings, shop.state, trainer, once=True, clock=lambda: now)


def test_a_model_is_trained_at_first_then_after_n_conversions(shop: Shop) -> None:
    trainer = Trainer()
    rule = {"conversions": 3, "every_seconds": None, "window": 2}
    shop.open()
    shop.page(1)
    _look(shop, trainer, **rule)
    shop.page(2, conversions=2)
    _look(shop, trainer, **rule)
    assert trainer.windows == [Window(1, 1)]
    shop.page(3, conversions=1)  # with those before a restart they are three
    _look(shop, trainer, **rule)
    assert trainer.windows == [Window(1, 1), Window(3, 2)]
    shop.page(4, conversions=2)
    _look(shop, trainer, **rule)
    assert len(trainer.windows) == 2


def test_a_model_is_trained_on_a_schedule_if_something_is_new(shop: Shop) -> None:
    trainer = Trainer()
    rule = {"every_seconds": 100.0, "window": 9}
    shop.open()
    _look(shop, trainer, **rule)
    assert trainer.windows == []
    shop.page(1)
    _look(shop, trainer, **rule)
    _look(shop, trainer, NOW + 500, **rule)
    assert trainer.windows == [Window(1, 1)]
    shop.page(2)
    _look(shop, trainer, NOW + 99, **rule)
    assert len(trainer.windows) == 1
    _look(shop, trainer, NOW + 100, **rule)
    assert trainer.windows[1:] == [Window(2, 2)]


def test_what_no_gate_lets_through_is_not_tried_again_and_again(shop: Shop) -> None:
    trainer = Trainer(version=None)
    shop.open()
    shop.page(1, conversions=5)
    _look(shop, trainer, conversions=5)
    _look(shop, trainer, conversions=5)
    assert len(trainer.windows) == 1
    assert StreamState.load(shop.state) == StreamState(1, NOW)


def test_a_training_that_is_killed_is_made_up_for(shop: Shop) -> None:
    def killed(window: Window) -> Outcome:
        raise KeyboardInterrupt

    shop.open()
    shop.page(1)
    with pytest.raises(KeyboardInterrupt):
        follow(shop.open(), shop.settings, shop.state, killed, once=True, clock=lambda: NOW)
    trainer = Trainer()
    _look(shop, trainer)
    assert trainer.windows == [Window(1, 1)]


def test_it_looks_until_it_is_told_to_stop(shop: Shop) -> None:
    told: list[int] = []
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt
        shop.page(len(waits))

    shop.open(poll_seconds=2.0)
    with pytest.raises(KeyboardInterrupt):
        follow(
            shop.open(), shop.settings, shop.state, Trainer(), clock=lambda: NOW, sleep=sleep,
            taken=lambda batch, conversions: told.append(batch.span),
        )  # fmt: skip
    assert waits == [2.0] * 3
    assert told == [1, 2]


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


def test_settings_that_never_train_and_a_foreign_state_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model would ever be trained"):
        StreamingSettings(every_seconds=None)
    (tmp_path / "stream.json").write_text("[]")
    with pytest.raises(Exception, match="no state of a stream"):
        StreamState.load(tmp_path / "stream.json")
