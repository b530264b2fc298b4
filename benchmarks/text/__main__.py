"""How fast and how exact is the text encoder?

    .venv/bin/python -m benchmarks.text
    .venv/bin/python -m benchmarks.text --steps speed --titles 4000

- speed: distinct titles of home_depot through sentence-transformers on PyTorch (its own
  environment, made under runs/benchmark-envs), through Heft in float32 and in reduced precision,
  in turn, chunk by chunk; ratios are medians over chunks. What reduced precision costs: the
  cosine to float32, and NDCG@10 of query and title cosine on human grades.
- rows: a log of 1,000,000 impressions with 70,000 distinct texts, each text once against both
  texts of every row. Both embed a sample and are extrapolated from its rate.
- graph: every query and title of home_depot and chorus, from the table and from an exported graph.

The last line is one JSON object.
"""

import argparse
import json

from heft.console import quiet
from heft.errors import HeftError

STEPS = ("speed", "rows", "graph")


def main() -> None:
    """Measures, then prints figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--titles", type=int, default=20_000)
    parser.add_argument("--chunks", type=int, default=5)
    parser.add_argument("--reduced", choices=("int8", "bfloat16"), default="int8")
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--distinct", type=int, default=70_000)
    parser.add_argument("--sample", type=int, default=4_000, help="texts that a rate is taken from")
    parser.add_argument("--compared", type=int, help="texts compared with the graph; all if absent")
    options = parser.parse_args()
    quiet()
    from benchmarks.text import graph, rows, speed

    figures: dict[str, object] = {}
    try:
        if "speed" in options.steps:
            figures |= speed.measure(options.titles, options.chunks, options.reduced)
        if "rows" in options.steps:
            figures |= rows.measure(
                options.impressions, options.distinct, options.sample, "float32"
            )
        if "graph" in options.steps:
            figures |= graph.measure(options.compared)
    except HeftError as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
