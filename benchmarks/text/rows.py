"""Each text once against every row of a log, and what either needs of memory."""

import itertools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.text.titles import every_text
from heft import features as f
from heft.text.embed import embed
from heft.text.encoder import load_encoder
from heft.text.pairs import count_pairs
from heft.text.settings import Precision, TextSettings

__all__ = ["measure"]

ROOT = Path(__file__).parents[2]
QUERIES, SHOWN = 12_000, 20  # queries of the log, and titles that each one shows
_BLOCK = 8192

Batch = dict[str, np.ndarray]


def measure(
    impressions: int, distinct: int, sample: int, precision: Precision
) -> dict[str, float | int]:
    """Seconds of both ways.

    Embedding 70,000 texts, let alone 2,000,000, is not waited for: both take the rate of a
    sample of `sample` texts of their own, drawn from the log. The rest is run in full.
    """
    texts = every_text()
    texts = [texts[i] for i in np.random.default_rng(1).permutation(len(texts))[:distinct]]
    encoder = load_encoder(TextSettings())
    embed(texts[:256], encoder, precision=precision)
    began = time.perf_counter()
    embed(texts[:sample], encoder, precision=precision)
    once = (time.perf_counter() - began) * len(texts) / min(sample, len(texts))
    began = time.perf_counter()
    pairs, counts = count_pairs(log(impressions, len(texts)))
    once += time.perf_counter() - began
    # What a row holds, in the order of the log: its query and its title, in the same batches.
    batch = next(log(impressions, len(texts)))
    ids = np.stack([batch[f.QUERY_ID], batch[f.TITLE_ID] + QUERIES], axis=1).ravel()[:sample]
    began = time.perf_counter()
    # A space in front makes each text another one to `embed`, with the same tokens.
    embed(
        [" " * (i // 1000 + 1) + texts[k] for i, k in enumerate(ids)], encoder, precision=precision
    )
    every = (time.perf_counter() - began) * 2 * impressions / len(ids)
    memory = {n: _peak_mib(n, len(texts)) for n in (impressions // 10, impressions)}
    return {
        "ratio_every_row": round(every / once, 1), "seconds_once": round(once, 1),
        "seconds_every_row": round(every, 1), "impressions": int(counts.sum()),
        "distinct_texts": len(texts), "distinct_pairs": len(pairs),
        "memory_growth_mib": round(memory[impressions] - memory[impressions // 10], 1),
        "memory_peak_mib": round(memory[impressions], 1),
    }  # fmt: skip


def log(impressions: int, texts: int) -> Iterator[Batch]:
    """Blocks of a log: queries by Zipf's law, each with twenty titles of its own."""
    rng, titles = np.random.default_rng(2), texts - QUERIES
    law = 1 / np.arange(1, QUERIES + 1)
    for start in range(0, impressions, _BLOCK):
        size = min(_BLOCK, impressions - start)
        queries = rng.choice(QUERIES, size, p=law / law.sum())
        yield {
            f.QUERY_ID: queries,
            f.TITLE_ID: (queries * SHOWN + rng.integers(0, SHOWN, size)) % titles,
        }


def _peak_mib(impressions: int, texts: int) -> float:
    command = [sys.executable, "-m", "benchmarks.text.rows", str(impressions), str(texts)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return float(found["peak_mib"])


def _alone() -> None:
    """Counts a log's pairs and embeds a hundred of its texts in a process of its own."""
    impressions, texts = map(int, sys.argv[1:3])
    encoder = load_encoder(TextSettings())
    embed(list(itertools.islice(every_text(), 100)), encoder)
    count_pairs(log(impressions, texts))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"peak_mib": peak}))


if __name__ == "__main__":
    _alone()
