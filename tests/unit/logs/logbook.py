"""Writes small logs the way teams do, and reads back what ingest made of them."""

import csv
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
import zstandard

Rows = Sequence[Mapping[str, Any]]

START = 1_700_000_000_000
LISTS = ("image", "history")  # columns with any number of values a row


def encode(rows: Rows, suffix: str) -> bytes:
    """Rows as the bytes of a file that ends in `suffix`, such as .csv.gz."""
    kind = suffix.split(".")[1]
    if kind == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), sink)
        data = sink.getvalue()
    elif kind == "jsonl":
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    else:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        data = text.getvalue().encode()
    if suffix.endswith(".gz"):
        return gzip.compress(data, mtime=0)
    if suffix.endswith(".zst"):
        return zstandard.compress(data)
    return data


def put(root: Path, name: str, data: bytes | Rows) -> Path:
    """Writes one file of a log; rows are encoded as the name's suffixes say."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    suffixes = "".join(path.suffixes)
    path.write_bytes(data if isinstance(data, bytes) else encode(data, suffixes))
    return path


def shop(requests: int = 40, per_page: int = 3) -> dict[str, list[dict[str, Any]]]:
    """A regular log: a page a minute, every tenth page shuffled, every fourth
    impression clicked, every third click converted."""
    impressions, clicks, conversions = [], [], []
    for request in range(requests):
        for position in range(1, per_page + 1):
            number = request * per_page + position
            time = START + request * 60_000
            impressions.append({
                "impression_id": f"i{number}", "request_id": f"r{request}",
                "user_id": f"u{request % 7}", "query": f"query {request % 11}",
                "item_id": f"p{number % 13}", "position": position, "timestamp": time,
                "randomised": request % 10 == 0, "device": ("phone", "desk")[request % 2],
            })  # fmt: skip
            if number % 4 == 0:
                clicks.append({"impression_id": f"i{number}", "timestamp": time + 5_000})
            if number % 12 == 0:
                conversions.append(
                    {
                        "impression_id": f"i{number}",
                        "timestamp": time + 65_000,
                        "value": 9.5,
                    }
                )
    catalogue = [
        {"item_id": f"p{n}", "title": f"title {n}", "category": f"c{n % 3}", "brand": "b",
         "price": n + 0.5} for n in range(13)
    ]  # fmt: skip
    return {"impressions": impressions, "clicks": clicks, "conversions": conversions,
            "catalogue": catalogue}  # fmt: skip


def put_shop(root: Path, log: Mapping[str, Rows], suffix: str = ".jsonl", span: int = 1) -> Path:
    """A whole log, the impressions in two files."""
    for stream, rows in log.items():
        folder = stream if stream in ("catalogue", "grades") else f"{stream}/span-{span}"
        half = len(rows) // 2 if stream == "impressions" else 0
        parts = [rows[:half], rows[half:]] if half else [rows]
        for number, part in enumerate(parts):
            put(root, f"{folder}/part-{number}{suffix}", part)
    return root


def read_examples(folder: Path) -> list[dict[str, Any]]:
    """The examples of a split, shard by shard; absent features are absent."""
    rows = []
    for path in sorted(folder.glob("*.gz")):
        for record in tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator():
            feature = tf.train.Example.FromString(record).features.feature
            row = {}
            for name, value in feature.items():
                kind = value.WhichOneof("kind")
                if kind is not None and getattr(value, kind).value:
                    values = list(getattr(value, kind).value)
                    if name in LISTS:
                        row[name] = values
                    else:
                        (row[name],) = values
            rows.append(row)
    return rows


def read_quarantine(folder: Path) -> list[dict[str, Any]]:
    """The rejected rows."""
    text = gzip.decompress((folder / "quarantine.jsonl.gz").read_bytes()).decode()
    return [json.loads(line) for line in text.splitlines()]
