"""A shop whose log files land in an inbox."""

import json
import os
from pathlib import Path
from typing import Any

from heft.logs.settings import LogsSettings
from heft.streaming.inbox import Inbox
from heft.streaming.settings import StreamingSettings

__all__ = ["NOW", "Shop", "impressions"]

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
