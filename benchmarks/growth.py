"""How the whole street grows with its logs: seconds and memory, node by node.

    .venv/bin/python -m benchmarks.growth --rows 100000 1000000 3000000

For each number of impressions a log is simulated, which is not counted, and `heft run` takes it
through every node, control included, in a process of its own on two cores, start-up and imports
counted. Memory is resident memory of that process and all it starts, sampled five times a second;
that of a node is the most seen while it ran. The table of each size is printed as it ends, and
`--out` keeps all facts. The last line is one JSON object:

    seconds_<N>  of `heft run` at about N impressions
    peak_gib     the most memory of any run
    exponent     b of seconds = a N^b, by least squares on logarithms
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heft.simulate import SimulationSettings, simulate

ROOT = Path(__file__).parents[1]
# As the street prints a node that has ended.
_ENDED = re.compile(r"^\s*[✓]\s+(?P<node>\w+)")
_PAGES_TO_LEARN_LENGTH = 2_000
_GIB = 2**30


@dataclass
class Node:
    """What one node took: seconds, its most memory, and the bytes it wrote."""

    seconds: float = 0.0
    peak_gib: float = 0.0
    output_bytes: int = 0


@dataclass
class Run:
    """One `heft run`."""

    rows: int
    seconds: float = 0.0
    start_seconds: float = 0.0
    peak_gib: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)


def main() -> None:
    """Runs every size, then prints the growth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 3_000_000])
    parser.add_argument("--source", default="builtin", choices=("builtin", "chorus", "home_depot"))
    parser.add_argument("--config", type=Path, default=ROOT / "pipeline/configs/demo.yaml")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], help="settings of the run, key=value")
    parser.add_argument("--work", type=Path, help="folder to keep logs and runs in")
    parser.add_argument("--out", type=Path, help="JSON file for all facts")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory(prefix="heft-growth-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        runs = {rows: _measure(rows, work, options) for rows in options.rows}
    if options.out:
        facts = {str(asked): asdict(run) for asked, run in runs.items()}
        options.out.write_text(json.dumps(facts, indent=1))
    print(json.dumps(figures(runs)))


def figures(runs: dict[int, Run]) -> dict[str, float | None]:
    """The last line: seconds by size asked for, the most memory, and the exponent."""
    found: dict[str, float | None] = {
        f"seconds_{asked}": round(run.seconds, 1) for asked, run in runs.items()
    }
    found["peak_gib"] = round(max(run.peak_gib for run in runs.values()), 2)
    found["exponent"] = None
    if len(runs) > 1:
        rows, seconds = zip(*((run.rows, run.seconds) for run in runs.values()), strict=True)
        found["exponent"] = round(float(np.polyfit(np.log(rows), np.log(seconds), 1)[0]), 3)
    return found


def _measure(asked: int, work: Path, options: argparse.Namespace) -> Run:
    logs = work / f"logs-{asked}"
    rows = _simulate(asked, logs, options)
    print(f"{rows:,} impressions", flush=True)
    command = [sys.executable, "-m", "heft.cli", "run", str(options.config)]
    command += ["--runs", str(work / "runs"), "--name", f"growth-{asked}"]
    settings = [f"logs.root={logs}", "simulate=null", f"seed={options.seed}", *options.set]
    command += [part for setting in settings for part in ("--set", setting)]
    run = _watch(command, rows)
    folder = work / "runs" / f"growth-{asked}"
    for name, node in run.nodes.items():
        node.output_bytes = _bytes(folder / "artifacts" / name)
    _print(run)
    return run


def _simulate(asked: int, out: Path, options: argparse.Namespace) -> int:
    """Writes a log of about that many impressions; how many it has."""
    data = Path(os.environ.get("HEFT_DATA", "../shared/data")) / options.source
    common: dict[str, Any] = {"source": options.source, "seed": options.seed}
    if options.source != "builtin":
        common["data"] = str(data)
    few = SimulationSettings(**common, sessions=_PAGES_TO_LEARN_LENGTH)
    length = simulate(few, out)["impressions"] / few.sessions
    return simulate(SimulationSettings(**common, sessions=round(asked / length)), out)[
        "impressions"
    ]


def _watch(command: list[str], rows: int) -> Run:
    """Runs a street and samples its memory until it ends."""
    # People of a simulation are nobody's secret.
    environment = os.environ | {
        "HEFT_PII_KEY": "simulated shoppers are nobody",
        "PYTHONUNBUFFERED": "1",
    }
    run, began = Run(rows), time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        samples: list[tuple[float, float]] = []
        sampler = threading.Thread(target=_sample, args=(process, samples), daemon=True)
        sampler.start()
        assert process.stdout is not None
        lines = _cut_by_node(process.stdout, run, samples)
        code = process.wait()
        sampler.join()
    if code:
        sys.exit("".join(lines) + f"heft run ended with {code}")
    run.seconds = time.monotonic() - began
    run.peak_gib = max((gib for _, gib in samples), default=0.0)
    run.start_seconds = run.seconds - sum(node.seconds for node in run.nodes.values())
    return run


def _cut_by_node(output: Iterable[str], run: Run, samples: list[tuple[float, float]]) -> list[str]:
    """Gives each node the time and the samples since the one before it ended."""
    lines, since = [], None
    for line in output:
        lines.append(line)
        ended = _ENDED.match(line)
        now = time.monotonic()
        if ended:
            seconds = re.search(r"\s(\d+(?:\.\d+)?)s\b", line)
            took = float(seconds.group(1)) if seconds else 0.0
            first = now - took if since is None else since
            peak = max((gib for at, gib in samples if at >= first), default=0.0)
            run.nodes[ended["node"]] = Node(took, peak)
            since = now
            print(line, end="", flush=True)
    return lines


def _sample(process: subprocess.Popen[str], samples: list[tuple[float, float]]) -> None:
    while process.poll() is None:
        samples.append((time.monotonic(), _resident(process.pid) / _GIB))
        time.sleep(0.2)


def _resident(root: int) -> int:
    """Bytes of resident memory of a process and its descendants."""
    parents: dict[int, int] = {}
    pages: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                pages[int(entry.name)] = int((entry / "statm").read_text().split()[1])
            except (OSError, IndexError):
                continue  # it has ended
            parents[int(entry.name)] = int(stat[1])
    family, found = {root}, True
    while found:
        found = {pid for pid, parent in parents.items() if parent in family} - family
        family |= found
    return sum(pages.get(pid, 0) for pid in family) * os.sysconf("SC_PAGE_SIZE")


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _print(run: Run) -> None:
    print(f"\n{run.rows:,} impressions: {run.seconds:.0f} s, {run.peak_gib:.2f} GiB")
    print(f"{'start and imports':22} {run.start_seconds:8.1f} s")
    for name, node in run.nodes.items():
        written = node.output_bytes / 1e6
        print(f"{name:22} {node.seconds:8.1f} s {node.peak_gib:6.2f} GiB {written:10.1f} MB")
    print(flush=True)


if __name__ == "__main__":
    main()
