"""How a peer's script takes splits and gives predictions; NumPy and the standard library only.

    python NAME_scores.py SPLITS SCORES

A split SPLITS/NAME.npz holds `features` (pairs, d), and for each impression `pair` (its row of
`features`), `click`, `conversion`, `tune` (1 where it tells when to stop), and the weight pairs
`positive` and `negative` of the click; `test` are the rows of `features` to predict.
SCORES/NAME.npz gets, for each model M, `M.click` and `M.conversion`: rates per impression.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

Split = dict[str, np.ndarray]
Predictions = tuple[np.ndarray, np.ndarray]


def serve(models: dict[str, Callable[[Split], Predictions]]) -> None:
    """Fits every model to every split."""
    splits, scores = map(Path, sys.argv[1:3])
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for path in sorted(splits.glob("*.npz")):
        with np.load(path) as columns:
            split = dict(columns)
        found = {}
        for name, fit in models.items():
            began = time.process_time()
            found[f"{name}.click"], found[f"{name}.conversion"] = fit(split)
            seconds[name].append(round(time.process_time() - began, 1))
        np.savez(scores / path.name, **found)
    (scores / "report.json").write_text(json.dumps({"seconds": seconds}), encoding="utf-8")
