"""Logs that land in two micro-batches, and the two models that come of them."""

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from heft.versions import versions

from .conftest import PATIENCE, ROOT, heft

CONFIG = f"""
name: streamed
seed: 3
logs:
  root: "{{logs}}"
  categorical: [device]
transform: {{categorical: [category, brand, device]}}
schema_dir: "{ROOT}/pipeline/schema/clicks"
importance: {{folds: 2, epochs: 2}}
model: {{epochs: 2, control: true}}
evaluation: {{tolerance: 1.0, bootstrap: {{resamples: 100}}}}
thresholds: {{minimum_ctr_auc: 0.5, calibration: [0.3, 3.0], maximum_auc_loss: 1.0}}
serving_check: {{rows: 20, latency_requests: 5}}
stream: {{inbox: "{{inbox}}", settle_seconds: 0, conversions: 1, every_seconds: null, window: 2}}
"""


def _land(made: Path, inbox: Path, requests: set[str], name: str) -> int:
    """The rows of some requests; returns their conversions."""
    shown = pq.read_table(made / "impressions")
    shown = shown.filter(pc.is_in(shown["request_id"], pa.array(sorted(requests))))
    tables = {"impressions": shown}
    for stream in ("clicks", "conversions"):
        table = pq.read_table(made / stream)
        tables[stream] = table.filter(pc.is_in(table["impression_id"], shown["impression_id"]))
    for stream, table in tables.items():
        (inbox / stream).mkdir(parents=True, exist_ok=True)
        pq.write_table(table, inbox / stream / f"{name}.parquet")
    return tables["conversions"].num_rows


@pytest.mark.slow
@pytest.mark.timeout(4 * PATIENCE)
def test_two_micro_batches_make_two_versions_the_second_from_the_first(tmp_path: Path) -> None:
    made, logs, inbox, runs = (tmp_path / n for n in ("made", "logs", "inbox", "runs"))
    heft("simulate", "builtin", "--out", made, "--sessions", 2_400, "--seed", 5)
    shutil.copytree(made / "catalogue", logs / "catalogue")
    config = tmp_path / "streamed.yaml"
    config.write_text(CONFIG.replace("{logs}", str(logs)).replace("{inbox}", str(inbox)))
    shown = pq.read_table(made / "impressions").sort_by("timestamp")
    requests = list(dict.fromkeys(shown["request_id"].to_pylist()))
    half = len(requests) // 2
    converted = _land(made, inbox, set(requests[:half]), "morning")
    arguments = ("stream", config, "--runs", runs, "--once")
    printed = heft(*arguments)
    assert f"{converted:,} conversions since the last training" in printed
    folder = runs / "streamed" / "serving" / "heft"
    [first] = versions(folder)
    assert f"pushed version {first.number}" in printed
    assert not list(inbox.glob("*/*.parquet"))
    # Nothing new, nothing done.
    assert "training" not in heft(*arguments).split("watching")[1]
    _land(made, inbox, set(requests[half:]), "noon")
    printed = heft(*arguments)
    second, _ = versions(folder)
    assert f"pushed version {second.number}" in printed
    summary = json.loads((runs / "streamed" / "summary.json").read_text())
    read = summary["streams"]["impressions"]["read"]
    assert read == shown.num_rows, "both spans, the whole of them"
    tables = runs / "streamed" / "artifacts" / "TextEmbedder" / "embeddings"
    newest = max(tables.iterdir(), key=lambda path: int(path.name))
    table = json.loads((newest / "table.json").read_text())
    assert table["reused"] > table["embedded"], "texts of the first span are not embedded again"
    state = json.loads((runs / "streamed" / "stream.json").read_text())
    assert state["span"] == 2
    assert os.listdir(inbox / "impressions") == []
