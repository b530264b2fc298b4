"""pyDVL's exact KNN-Shapley on one sample, by the clock.

    python pydvl_speed.py FOLDER JOBS...

Reads FOLDER/sample.npz, writes FOLDER/pydvl.npy, prints one JSON object: seconds by
number of joblib's processes, which are started and warmed up before.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from joblib import parallel_config
from pydvl_scores import knn_shapley


def main() -> None:
    """Every number of processes once."""
    folder = Path(sys.argv[1])
    with np.load(folder / "sample.npz") as columns:
        split = dict(columns)
    seconds = {}
    for jobs in sys.argv[2:]:
        with parallel_config(n_jobs=int(jobs)):
            knn_shapley(split | {"x": split["x"][:300], "y": split["y"][:300]}, 0)
            began = time.perf_counter()
            values = knn_shapley(split, 0)
            seconds[jobs] = time.perf_counter() - began
    np.save(folder / "pydvl.npy", values)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
