"""Spans as ingest leaves them: shards, statistics and what became of the rows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from heft import features as f
from heft.examples import write_columns
from heft.gate.findings import Findings
from heft.gate.inspecting import Span
from heft.gate.settings import LogColumns
from heft.tfdv import tfdv
from tests.unit.model.rows import schema

COLUMNS = LogColumns(
    categorical=("device",),
    pii=(f.USER_ID,),
    seen_categorical=(f.CATEGORY, f.BRAND, "device"),
    seen_numeric=(f.PRICE,),
)
PAGE = 10
Columns = dict[str, np.ndarray]


def texts(values: Any) -> np.ndarray:
    return np.array([str(value).encode() for value in values], object)


def impressions(rows: int, seed: int) -> Columns:
    """Pages of ten, four pages a person; people click 12 % of rows, more at the top, and buy a
    fifth of what they click."""
    rng = np.random.default_rng(seed)
    number = np.arange(rows)
    position = number % PAGE + 1
    click = (rng.random(rows) < 0.5 / (position + 1)).astype(np.int64)
    return {
        f.IMPRESSION_ID: texts(f"i{seed}-{n}" for n in number),
        f.REQUEST_ID: texts(f"r{seed}-{n // PAGE}" for n in number),
        f.USER_ID: texts(f"u{seed}-{n // (4 * PAGE)}" for n in number),
        f.ITEM_ID: texts(f"p{n}" for n in rng.integers(0, 500, rows)),
        f.QUERY: texts(f"query {n}" for n in rng.integers(0, 90, rows)),
        f.TITLE: texts(f"title {n}" for n in rng.integers(0, 400, rows)),
        f.POSITION: position,
        f.TIMESTAMP: number,
        f.RANDOMISED: np.zeros(rows, np.int64),
        f.CATEGORY: texts(f"c{n}" for n in rng.integers(0, 8, rows)),
        f.BRAND: texts(f"b{n}" for n in rng.integers(0, 30, rows)),
        f.PRICE: rng.lognormal(3, 0.5, rows).astype(np.float32),
        f.CLICK: click,
        f.CLICK_DELAY: np.where(click, 2.5, -1.0).astype(np.float32),
        f.CONVERSION: click * (rng.random(rows) < 0.2),
        f.CONVERSION_DELAY: np.full(rows, -1.0, np.float32),
        f.CONVERSION_VALUE: np.zeros(rows, np.float32),
        f.OBSERVATION: np.full(rows, 60.0, np.float32),
        "device": texts(np.where(rng.random(rows) < 0.6, "phone", "desk")),
    }


def half_the_clicks_gone(columns: Columns) -> Columns:
    """As if every other click event were lost."""
    kept = np.random.default_rng(99_999).random(len(columns[f.CLICK])) < 0.5
    return columns | {name: columns[name] * kept for name in (f.CLICK, f.CONVERSION)}


def span_of(
    folder: Path,
    columns: Columns,
    number: int = 1,
    streams: Mapping[str, Any] | None = None,
    natural: float = 0.25,
) -> Span:
    """The columns as a span, the last of them as `natural`."""
    rows = len(columns[f.CLICK])
    cut = round(rows * (1 - natural))
    parts = {f.TRAIN: slice(0, cut), f.NATURAL: slice(cut, rows)}
    statistics, uris = {}, {}
    for split, part in parts.items():
        own = {name: values[part] for name, values in columns.items()}
        uris[split] = str(folder / f"Split-{split}")
        write_columns(own, folder / f"Split-{split}" / "a.gz")
        frame = pd.DataFrame(
            {n: [x.decode() for x in v] if v.dtype == object else v for n, v in own.items()}
        )
        statistics[split] = tfdv.generate_statistics_from_dataframe(frame)
    return Span(number, uris, statistics, schema(), streams or {})


def said(found: Findings) -> list[tuple[str, str]]:
    """(feature, kind) of each anomaly, a split's repetition left out."""
    return sorted({(one.feature, one.kind) for one in found.anomalies})
