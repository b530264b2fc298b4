"""What the street costs at a size that nobody measured, from sizes that somebody did.

    .venv/bin/python -m benchmarks.growth --rows 100000 1000000 3000000 --out growth.json
    .venv/bin/python -m benchmarks.shuffle --rows 30000 --out shuffle-small.json
    .venv/bin/python -m benchmarks.shuffle --rows 100000 --out shuffle.json
    .venv/bin/python -m benchmarks.cost --growth growth.json --shuffle shuffle-small.json shuffle.json \
        --impressions 1e9 --speedup TextEmbedder=260 --cpu-hour 0.05 --gpu-hour 3 --gb-month 0.02

For every node, with its seconds s1, s2 at the two largest sizes N1 < N2 that were measured:

    b           = (s2 - s1) / (N2 - N1), at least 0        seconds an impression
    a           = s1 - b N1, at least 0                    seconds whatever the size
    seconds(N)  = a + b N                                  with one size: a = 0, b = s1 / N1
    CPU hours   = cores * seconds(N) / 3600                cores that waited are paid as well
    GPU hours   = seconds(N) / speedup / 3600              in place of CPU hours, where a speedup is named
    output(N), memory(N), shuffle(N)   by the same line, from bytes, GiB and bytes
    cost        = CPU hours * price + GPU hours * price + output * keep * price a month

A speedup is an assumption unless you measured it; so are prices, of which there is no default. The
table is Markdown; the last line is one JSON object: `cpu_hours`, `gpu_hours`, `output_gb`,
`shuffle_gb` and `cost` (null without prices).
"""  # noqa: E501

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Line", "NodeCost", "Prices", "estimate", "main", "table"]

_HOUR = 3600.0
_GB = 1e9
# From where on the number of impressions is what a node's memory depends on.
_ONE_WORKER_GIB = 16.0


@dataclass(frozen=True)
class Line:
    """`start + slope * impressions`, neither of them below 0."""

    start: float
    slope: float

    @classmethod
    def through(cls, points: Mapping[int, float]) -> "Line":
        """Through the values at the two largest sizes; through 0 if there is one size."""
        sizes = sorted(points)[-2:]
        if len(sizes) == 1:
            return cls(0.0, points[sizes[0]] / sizes[0])
        first, second = (points[size] for size in sizes)
        slope = max(0.0, (second - first) / (sizes[1] - sizes[0]))
        return cls(max(0.0, first - slope * sizes[0]), slope)

    def at(self, impressions: float) -> float:
        """Its value at a size."""
        return self.start + self.slope * impressions


@dataclass(frozen=True)
class Prices:
    """In any one currency: of a core's hour, of a GPU's, of 10^9 bytes kept for a month."""

    cpu_hour: float
    gpu_hour: float
    gb_month: float


@dataclass(frozen=True)
class NodeCost:
    """What one node takes: hours of cores and GPUs, GB written and shuffled, GiB of memory."""

    node: str
    cpu_hours: float
    gpu_hours: float
    output_gb: float
    shuffle_gb: float
    memory_gib: float

    def price(self, prices: Prices, keep: float) -> float:
        """In the currency of `prices`, its output kept `keep` months."""
        hours = self.cpu_hours * prices.cpu_hour + self.gpu_hours * prices.gpu_hour
        return hours + self.output_gb * keep * prices.gb_month


def estimate(
    growth: Mapping[str, Any], impressions: float, cores: int, speedups: Mapping[str, float],
    shuffles: Sequence[Mapping[str, Any]] = (),
) -> list[NodeCost]:  # fmt: skip
    """Costs of every node, in the order in which they ran.

    Args:
        growth: what `benchmarks.growth --out` wrote: by size, `rows` and `nodes`.
        impressions: the size that is asked for.
        cores: of the machine that was measured.
        speedups: of one GPU over that machine, by node.
        shuffles: what runs of `benchmarks.shuffle --out` wrote.

    Raises:
        ValueError: a speedup is not positive or is of a node that was not measured, or there
            is no measurement.
    """
    runs = {int(run.get("rows", size)): run["nodes"] for size, run in growth.items()}
    if not runs:
        raise ValueError("expected at least one measured size, received none")
    largest = runs[max(runs)]
    for node, speedup in speedups.items():
        if node not in largest or speedup <= 0:
            raise ValueError(
                f"--speedup {node}={speedup:g}: expected a positive number for one of "
                f"{', '.join(largest)}"
            )
    costs = []
    for node in largest:

        def line(fact: str, node: str = node) -> float:
            points = {n: float(nodes[node][fact]) for n, nodes in runs.items() if node in nodes}
            return Line.through(points).at(impressions)

        seconds = line("seconds")
        moved = {int(one["rows"]): float(one["nodes"].get(node, 0)) for one in shuffles}
        on_gpu = node in speedups
        costs.append(NodeCost(
            node=node,
            cpu_hours=0.0 if on_gpu else cores * seconds / _HOUR,
            gpu_hours=seconds / speedups[node] / _HOUR if on_gpu else 0.0,
            output_gb=line("output_bytes") / _GB,
            shuffle_gb=Line.through(moved).at(impressions) / _GB if moved else 0.0,
            memory_gib=line("peak_gib"),
        ))  # fmt: skip
    return costs


def table(costs: Sequence[NodeCost], prices: Prices | None, keep: float) -> str:
    """Markdown, a row a node and their sum; figures to two digits."""
    heads = ["node", "CPU hours", "GPU hours", "output, GB", "shuffle, GB", "memory, GiB"]
    rows = [[c.node, c.cpu_hours, c.gpu_hours, c.output_gb, c.shuffle_gb, c.memory_gib]
            for c in costs]  # fmt: skip
    rows.append(["all", *(sum(row[k] for row in rows) for k in range(1, 5)), ""])
    if prices is not None:
        heads.append("cost")
        each = [cost.price(prices, keep) for cost in costs]
        rows = [[*row, value] for row, value in zip(rows, [*each, sum(each)], strict=True)]
    lines = [heads, ["---"] * len(heads), *([_shown(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    digits = 0 if cell >= 100 else 1 if cell >= 1 else 3
    return f"{cell:,.{digits}f}" if cell else "0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and its sums; 2 if an argument cannot be used."""
    options = _parse(arguments)
    growth = json.loads(options.growth.read_text())
    shuffles = [json.loads(path.read_text()) for path in options.shuffle]
    given = [options.cpu_hour, options.gpu_hour, options.gb_month]
    prices = None if None in given else Prices(*given)
    try:
        costs = estimate(
            growth, options.impressions, options.cores, dict(options.speedup), shuffles
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    sizes = ", ".join(f"{run.get('rows', int(size)):,}" for size, run in growth.items())
    print(
        f"{options.impressions:,.0f} impressions, from runs of {sizes} on {options.cores} cores\n"
    )
    print(table(costs, prices, options.keep))
    for cost in costs:
        if cost.memory_gib > _ONE_WORKER_GIB:
            print(
                f"\n{cost.node}: {cost.memory_gib:,.0f} GiB by this line do not fit on one worker"
            )
    print()
    print(json.dumps({
        "cpu_hours": round(sum(cost.cpu_hours for cost in costs), 1),
        "gpu_hours": round(sum(cost.gpu_hours for cost in costs), 2),
        "output_gb": round(sum(cost.output_gb for cost in costs), 1),
        "shuffle_gb": round(sum(cost.shuffle_gb for cost in costs), 1),
        "cost": round(sum(c.price(prices, options.keep) for c in costs), 2) if prices else None,
    }))  # fmt: skip
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--growth", type=Path, required=True, help="of benchmarks.growth --out")
    parser.add_argument(
        "--shuffle", type=Path, nargs="+", default=[], help="of benchmarks.shuffle --out"
    )
    parser.add_argument("--impressions", type=float, default=1e9)
    parser.add_argument("--cores", type=int, default=2, help="of the machine that was measured")
    parser.add_argument(
        "--speedup", type=_speedup, action="append", default=[], metavar="NODE=TIMES",
        help="a node that runs on a GPU, and how much faster than on the machine measured",
    )  # fmt: skip
    parser.add_argument("--cpu-hour", type=float, help="price of a core's hour")
    parser.add_argument("--gpu-hour", type=float, help="price of a GPU's hour")
    parser.add_argument("--gb-month", type=float, help="price of 10^9 bytes kept for a month")
    parser.add_argument("--keep", type=float, default=1.0, help="months that output is kept")
    return parser.parse_args(arguments)


def _speedup(text: str) -> tuple[str, float]:
    node, _, times = text.partition("=")
    try:
        return node, float(times)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NODE=TIMES, received {text!r}") from None


if __name__ == "__main__":
    sys.exit(main())
