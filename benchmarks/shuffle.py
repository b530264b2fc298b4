"""How many bytes does each node of the street send round between workers?

    .venv/bin/python -m benchmarks.shuffle --rows 100000 --out shuffle.json

A log of about that many impressions is simulated, and the street is run on it in this process on
Beam's in-memory runner. What is counted, node by node:

- every byte that is put in front of a GroupByKey, as the runner encodes it: keys, values and
  windows, after the combiners have done what they can before the shuffle;
- every byte of rows that ingest writes to its shuffle folder, as it sends record batches through
  files and only their places through Beam.

A runner on a cluster writes and reads each of these bytes once; with more workers, combiners run
on smaller parts and more of their results are shuffled. The last line is one JSON object: `rows`,
and `nodes` with the bytes of each; `--out` writes it to a file as well.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[1]
_PAGES_TO_LEARN_LENGTH = 1_000


def main() -> None:
    """Simulates, runs, prints the bytes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--config", type=Path, default=ROOT / "pipeline/configs/demo.yaml")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--set", action="append", default=[], help="settings of the run, key=value")
    parser.add_argument("--out", type=Path, help="JSON file for the last line")
    options = parser.parse_args()
    from heft.console import quiet

    quiet()  # before the engines are imported
    os.environ.setdefault("HEFT_PII_KEY", "simulated shoppers are nobody")
    with tempfile.TemporaryDirectory(prefix="heft-shuffle-") as work:
        rows = _simulate(options.rows, Path(work) / "logs", options.seed)
        with counted() as moved:
            _run(options, Path(work))
    for node, count in moved.items():
        print(f"{node:22} {count / 1e6:10.2f} MB {count / rows:8.1f} bytes an impression")
    figures = json.dumps({"rows": rows, "nodes": dict(moved)})
    if options.out:
        options.out.write_text(figures)
    print(figures)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Bytes shuffled by node, for nodes that TFX launches inside the block."""
    from apache_beam.runners.portability.fn_api_runner.execution import GroupingBuffer
    from tfx.orchestration.portable.launcher import Launcher

    from heft.logs.tables import Spill

    moved: Counter[str] = Counter()
    running = ["elsewhere"]
    append, written, launch = GroupingBuffer.append, Spill._written, Launcher.launch

    def counting_append(self: Any, elements_data: bytes) -> None:
        moved[running[-1]] += len(elements_data)
        append(self, elements_data)

    def counting_written(self: Any, blob: bytes) -> Any:
        moved[running[-1]] += len(blob)
        return written(self, blob)

    def noting_launch(self: Any) -> Any:
        running.append(self._pipeline_node.node_info.id)
        try:
            return launch(self)
        finally:
            running.pop()

    with (
        mock.patch.object(GroupingBuffer, "append", counting_append),
        mock.patch.object(Spill, "_written", counting_written),
        mock.patch.object(Launcher, "launch", noting_launch),
    ):
        yield moved


def _simulate(asked: int, out: Path, seed: int) -> int:
    from heft.simulate import SimulationSettings, simulate

    few = SimulationSettings(seed=seed, sessions=_PAGES_TO_LEARN_LENGTH)
    length = simulate(few, out)["impressions"] / few.sessions
    return simulate(SimulationSettings(seed=seed, sessions=round(asked / length)), out)[
        "impressions"
    ]


def _run(options: argparse.Namespace, work: Path) -> None:
    import yaml
    from rich.console import Console

    from pipeline.street import Street, run_street

    overrides: dict[str, Any] = {
        "logs.root": str(work / "logs"), "simulate": None, "seed": options.seed, "name": "shuffle",
    }  # fmt: skip
    for setting in options.set:
        key, _, value = setting.partition("=")
        overrides[key] = yaml.safe_load(value)
    data = Path(os.environ.get("HEFT_DATA", "../shared/data"))
    run_street(Street(options.config, work / "runs", data, (), overrides, Console()))


if __name__ == "__main__":
    main()
