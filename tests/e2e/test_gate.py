"""A span with half the clicks gone, as a user meets it: one table, exit code 3, nothing learned."""

import json
import os
import re
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from .conftest import PATIENCE, ROOT, Street

pytestmark = pytest.mark.timeout(2 * PATIENCE)


def test_a_span_with_half_the_clicks_gone_stops_the_run(street: Street, tmp_path):
    logs = tmp_path / "logs"
    shutil.copytree(street.folder / "logs", logs)
    [first] = (logs / "impressions").iterdir()
    number = int(first.name.removeprefix("span-"))
    for stream in ("impressions", "clicks", "conversions"):
        (logs / stream / first.name).rename(logs / stream / f"span-{number + 1}")
    for path in (logs / "clicks").rglob("*.parquet"):
        clicks = pq.read_table(path)
        pq.write_table(clicks.take(list(range(0, len(clicks), 2))), path)
    text = re.sub(r"simulate: .*\n", "", street.config.read_text())
    config = tmp_path / "small.yaml"
    config.write_text(text.replace("{run}/logs", str(logs)))
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "COLUMNS": "150"}
    before = json.loads((street.folder / "summary.json").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "heft.cli", "run", str(config), "--runs", str(street.runs)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert "✗ AnomalyGate" in done.stdout and "Transform" not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.startswith(f"error: 1 anomaly in span {number + 1}, and the run stops:")
    assert re.search(r"all +CTR +rate .* before +.*clicks", done.stderr)
    assert f"gate.since={number + 1}" in done.stderr
    [kept] = (street.folder / "artifacts" / "AnomalyGate" / "rejected").iterdir()
    assert str(kept / "anomalies.txt") in done.stderr
    facts = json.loads((kept / "gate.json").read_text())
    assert facts["compared_with"] == [number]
    assert facts["labels"]["ctr"] == pytest.approx(facts["usual_labels"]["ctr"] / 2, rel=0.02)
    # What the run before said and served is as it was.
    assert json.loads((street.folder / "summary.json").read_text()) == before
