"""How fast is ingest, what memory does it take, and does either grow faster than the log?

    .venv/bin/python -m benchmarks.ingest --rows 1000000

A log of a shop is written: impressions with clicks, conversions (duplicates, late ones and
strangers among them) and a catalogue. Then, each in a process of its own on two cores, with
Beam's in-memory runner: CsvExampleGen and LogExampleGen on the same 200,000 impressions in the
same CSV files, in turns; LogExampleGen on all rows, and on five times as many. The clock runs
from the executor's first line to its last; memory is the sum of the resident sets of all
processes of a part. The last line is one JSON object:

    rows                   impressions of the log
    seconds                of LogExampleGen, the median of the rounds
    ratio_csv_example_gen  its rows a second over CsvExampleGen's, medians of 200,000 rows, though
                           it joins clicks, conversions and the catalogue as well
    peak_gib               of memory, the larger of both sizes
    growth_5x              seconds of five times the rows over `seconds`

Beside them stand processor seconds, which other work on the machine moves less: `cpu_seconds`
and `ratio_cpu`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

ROOT = Path(__file__).parents[1]
COMPARED_ROWS = 200_000
FILE_ROWS = 250_000
PAGE, ITEMS, QUERIES = 10, 50_000, 12_000
START = 1_700_000_000_000
CATEGORIES = 200
WORDS = 4_000
_SECONDS_BETWEEN_LOOKS = 0.02


def main() -> None:
    """Writes logs, measures, prints figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("parquet", "jsonl", "csv"), default="parquet")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", type=int, default=5, help="times as many rows; 0: not measured")
    parser.add_argument("--compare", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--set", action="append", default=[], help="logs settings, key=JSON")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    os.environ.setdefault("HEFT_PII_KEY", "nobody lives in this benchmark")
    with tempfile.TemporaryDirectory(prefix="heft-ingest-") as folder:
        # What is compiled is compiled once on a machine, and is not what is timed.
        write_log(Path(folder) / "warm", 2_000, options.format)
        _measure("ours", options, Path(folder) / "warm")
        print(json.dumps(_measure_all(options, Path(folder))))


def _measure_all(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {"rows": options.rows, "format": options.format}
    if options.compare:
        write_log(folder / "compared", COMPARED_ROWS, "csv")
        pairs = [
            [_measure(part, options, folder / "compared") for part in ("ours", "csv")]
            for _ in range(options.rounds)
        ]
        ours, theirs = (median(pair[k]["seconds"] for pair in pairs) for k in (0, 1))
        figures |= {"compared_seconds": [round(ours, 2), round(theirs, 2)]}
        figures["ratio_csv_example_gen"] = round(theirs / ours, 2)
        ours, theirs = (median(pair[k]["cpu_seconds"] for pair in pairs) for k in (0, 1))
        figures["ratio_cpu"] = round(theirs / ours, 2)
    write_log(folder / "log", options.rows, options.format)
    found = [_measure("ours", options, folder / "log") for _ in range(options.rounds)]
    figures["seconds"] = round(median(one["seconds"] for one in found), 2)
    figures["cpu_seconds"] = round(median(one["cpu_seconds"] for one in found), 2)
    figures["rows_per_s"] = round(options.rows / figures["seconds"])
    figures["peak_gib"] = round(max(one["peak_gib"] for one in found), 2)
    if options.growth:
        write_log(folder / "long", options.rows * options.growth, options.format)
        long = _measure("ours", options, folder / "long")
        figures["seconds_long"] = round(long["seconds"], 2)
        figures["cpu_seconds_long"] = round(long["cpu_seconds"], 2)
        figures["peak_gib_long"] = round(long["peak_gib"], 2)
        figures["peak_gib"] = max(figures["peak_gib"], figures["peak_gib_long"])
        figures[f"growth_{options.growth}x"] = round(long["seconds"] / figures["seconds"], 2)
    return figures


def write_log(root: Path, rows: int, kind: str) -> None:
    """A log of `rows` impressions in files of 250,000, made a file at a time."""
    rng = np.random.default_rng(rows)
    words = np.array([f"w{_letters(k)}" for k in range(WORDS)])
    _put(_catalogue(rng, words), root / "catalogue" / f"items.{kind}")
    queries = pa.array([" ".join(rng.choice(words, 3)) for _ in range(QUERIES)])
    for number, begin in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - begin)
        name = f"span-1/part-{number:04d}.{kind}"
        for stream, table in _streams(rng, begin, count, queries).items():
            _put(table, root / stream / name)


def _letters(number: int) -> str:
    return np.base_repr(number * 7_919 + 1_000, 36).lower()


def _catalogue(rng: np.random.Generator, words: np.ndarray) -> pa.Table:
    picked = rng.choice(words, (ITEMS, 6))
    return pa.table({
        "item_id": _numbered("p", np.arange(ITEMS)),
        "title": [" ".join(row) for row in picked],
        "category": _numbered("c", rng.integers(0, CATEGORIES, ITEMS)),
        "brand": _numbered("b", rng.integers(0, 2_000, ITEMS)),
        "price": np.round(rng.lognormal(3, 1, ITEMS), 2),
    })  # fmt: skip


def _streams(
    rng: np.random.Generator, begin: int, rows: int, queries: pa.Array
) -> dict[str, pa.Table]:
    number = np.arange(begin, begin + rows)
    page = number // PAGE
    time_ms = START + page * 1_000
    pages = page - page[0]
    query = (rng.zipf(1.3, pages[-1] + 1) % QUERIES)[pages]
    ids = _numbered("i", number)
    impressions = pa.table({
        "impression_id": ids,
        "request_id": _numbered("r", page),
        "user_id": _numbered("u", rng.integers(0, 100_000, pages[-1] + 1)[pages]),
        "query": queries.take(pa.array(query)),
        "item_id": _numbered("p", rng.integers(0, ITEMS, rows)),
        "position": number % PAGE + 1,
        "timestamp": time_ms,
        "randomised": (page % 50 == 0).astype(np.int64),
        "device": pa.array(["phone", "desk", "tablet"]).take(pa.array(page % 3)),
    })  # fmt: skip
    clicked = np.flatnonzero(rng.random(rows) < 0.12)
    bought = clicked[rng.random(len(clicked)) < 0.2]
    click_time = time_ms[clicked] + rng.integers(-1_000, 3_700_000, len(clicked))
    clicks = pa.table({"impression_id": ids.take(pa.array(clicked)), "timestamp": click_time})
    conversions = pa.table({
        "impression_id": ids.take(pa.array(bought)),
        "timestamp": time_ms[bought] + rng.integers(0, 700_000_000, len(bought)),
        "value": np.round(rng.lognormal(3, 1, len(bought)), 2),
    })  # fmt: skip
    again = pa.concat_tables([clicks, clicks.slice(0, len(clicked) // 20)])
    return {"impressions": impressions, "clicks": again, "conversions": conversions}


def _numbered(prefix: str, numbers: np.ndarray) -> pa.Array:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0")
    return pc.binary_join_element_wise(prefix, digits, "")


def _put(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".csv":
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(quoting_style="needed"))
    else:
        table.to_pandas().to_json(path, orient="records", lines=True)


def _measure(part: str, options: argparse.Namespace, root: Path) -> dict[str, float]:
    """Figures of one part, from processes of its own."""
    with tempfile.TemporaryDirectory(prefix="heft-ingest-out-") as out:
        command = [sys.executable, "-m", "benchmarks.ingest", "--part", part]
        command += ["--folder", str(root)]
        for pair in options.set:
            command += ["--set", pair]
        with (Path(out) / "stderr").open("w+") as errors:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
                env=os.environ | {"TMPDIR": out},
            )  # fmt: skip
            peak = _watch(process)
            said = process.communicate()[0]
            if process.returncode:
                errors.seek(0)
                raise SystemExit(f"{part} failed:\n{errors.read()[-3_000:]}")
    found: dict[str, float] = json.loads(said.strip().splitlines()[-1])
    found["peak_gib"] = peak / 2**30
    print(f"{part} on {root.name}: {found['seconds']:.2f} s, peak {found['peak_gib']:.2f} GiB",
          flush=True)  # fmt: skip
    return found


def _watch(process: subprocess.Popen) -> int:
    """The largest sum of resident sets of a process and all below it, in bytes."""
    top = psutil.Process(process.pid)
    peak = 0
    while process.poll() is None:
        total = 0
        try:
            for one in (top, *top.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.NoSuchProcess:
            pass
        peak = max(peak, total)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return peak


def _ours(options: argparse.Namespace) -> dict[str, float]:
    from components.artifacts import Quarantine
    from components.log_example_gen.component import LogExampleGen
    from components.log_example_gen.executor import Executor
    from heft.logs import LogsSettings

    given = dict(pair.split("=", 1) for pair in options.set)
    settings = LogsSettings.model_validate(
        {"root": str(options.folder), "categorical": ["device"]}
        | {key: json.loads(value) for key, value in given.items()}
    )
    outputs = {"quarantine": [_artifact(Quarantine, "quarantine")]}
    properties = dict(LogExampleGen(settings, "not asked for").exec_properties)
    return _timed(Executor, outputs, properties)


def _csv_example_gen(options: argparse.Namespace) -> dict[str, float]:
    from google.protobuf import json_format
    from tfx.components.example_gen.csv_example_gen.executor import Executor
    from tfx.proto import example_gen_pb2

    pattern = example_gen_pb2.Input(
        splits=[example_gen_pb2.Input.Split(name="all", pattern="impressions/span-1/*")]
    )
    output = example_gen_pb2.Output(
        split_config=example_gen_pb2.SplitConfig(
            splits=[
                example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=buckets)
                for name, buckets in (("train", 7), ("tune", 1), ("natural", 2))
            ]
        )
    )
    said: Callable[[Any], str] = json_format.MessageToJson
    properties = {
        "input_base": str(options.folder),
        "input_config": said(pattern),
        "output_config": said(output),
        "output_data_format": example_gen_pb2.FORMAT_TF_EXAMPLE,
        "output_file_format": 5,
    }
    return _timed(Executor, {}, properties)


def _artifact(kind: Any, name: str) -> Any:
    artifact = kind()
    artifact.uri = str(Path(tempfile.mkdtemp()) / name)
    return artifact


def _timed(executor: Any, outputs: dict, properties: dict) -> dict[str, float]:
    from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
    from tfx.types import standard_artifacts

    from heft.logs.ingest import local_pipeline

    outputs["examples"] = [_artifact(standard_artifacts.Examples, "examples")]
    context = BaseBeamExecutor.Context(make_beam_pipeline_fn=local_pipeline)
    began, used = time.monotonic(), time.process_time()
    executor(context).Do({}, outputs, properties)
    return {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - used}


PARTS = {"ours": _ours, "csv": _csv_example_gen}

if __name__ == "__main__":
    main()
