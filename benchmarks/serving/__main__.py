"""How fast is a pushed model served, and does a server stand what happens to one?

    .venv/bin/python -m benchmarks.serving

A model of a shop with 12,000 queries and 50,000 titles is exported as a run exports it. First the
SavedModel is asked in a process of its own on two cores, then the stand-in for TensorFlow Serving
serves it: under load at 80 % of its capacity, with five versions swapped and a canary label
moved; killed and started again; with a corrupt and a half-copied version beside it; and with
requests that nobody should send. The last line is one JSON object:

    p50_known_ms, p99_known_ms  100 candidates, all texts known, in the SavedModel
    p99_new_query_ms            one new query, known titles
    ratio_encode_all            p50 of the same graph made to encode every text, over p50_known_ms
    requests_per_s              pages of 100 candidates that the stand-in answers
    failures                    requests that failed or got an answer of the wrong version, faults
                                that brought the server down, fuzzed requests with a wrong answer
    restart_s                   from kill -9 to the first answer
    p99_load_ms                 of a request under that load
    fuzz_growth_mib             that the server grew by over the fuzzed requests
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.fuzz import fuzzed
from benchmarks.serving.load import Ask, Change, Load, capacity
from benchmarks.serving.models import COLUMNS, Shop, export_shop
from benchmarks.serving.server import Server
from heft.console import quiet
from serving.client import Client
from serving.labels import move_labels

ROOT = Path(__file__).parents[2]
CANDIDATES, SWAPS = 100, 5
_RESTART_SECONDS = 10.0
_CLOSE = 1e-4  # answers of one model, over whatever protocol


def main() -> None:
    """Measures, then prints figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=12_000)
    parser.add_argument("--titles", type=int, default=50_000)
    parser.add_argument("--requests", type=int, default=1_000, help="timed for a percentile")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--fuzz", type=int, default=10_000, help="hostile requests")
    parser.add_argument("--models", type=Path, help="keep the exported models here, or take them")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    quiet()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    shop = Shop(options.queries, options.titles)
    if options.part:
        print(json.dumps(_latencies(shop, options.models, options.requests)))
        return
    with tempfile.TemporaryDirectory(prefix="heft-serving-") as scratch:
        models = options.models or Path(scratch) / "models"
        if not (models / "encodes_all" / "saved_model.pb").is_file():
            export_shop(shop, models)
        figures = _measured(options, models)
        figures |= _served(shop, models, Path(scratch), options)
    print(json.dumps(figures))


def _measured(options: argparse.Namespace, models: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.serving", "--part", "latency"]
    for name in ("queries", "titles", "requests"):
        command += [f"--{name}", str(getattr(options, name))]
    command += ["--models", str(models)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _latencies(shop: Shop, models: Path, requests: int) -> dict[str, float]:
    """Of the SavedModel in this process."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers the tokeniser's ops

    def timed(name: str, count: int, new_query: bool = False) -> np.ndarray:
        serve = tf.saved_model.load(str(models / name)).signatures["serving_default"]
        taken = []
        for number in range(count + 20):
            page = shop.page(number, CANDIDATES, new_query)
            columns = {key: tf.constant(values) for key, values in page.items()}
            began = time.perf_counter()
            serve(**columns)["ctcvr"].numpy()
            taken.append(1e3 * (time.perf_counter() - began))
        return np.array(taken[20:])  # the first ones warm up

    known, new = timed("a", requests), timed("a", requests, new_query=True)
    encoded = timed("encodes_all", max(20, requests // 20))
    return {
        "p50_known_ms": round(float(np.median(known)), 2),
        "p99_known_ms": round(float(np.percentile(known, 99)), 2),
        "p99_new_query_ms": round(float(np.percentile(new, 99)), 2),
        "ratio_encode_all": round(float(np.median(encoded) / np.median(known)), 1),
    }


class _Asked:
    """One page, and what each model says of it."""

    def __init__(self, shop: Shop, models: Path) -> None:
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokeniser's ops

        self.page = shop.page(0, CANDIDATES)
        columns = {key: tf.constant(values) for key, values in self.page.items()}
        self.said = [
            tf.saved_model.load(str(models / name)).signatures["serving_default"](**columns)["ctr"]
            .numpy() for name in ("a", "b")
        ]  # fmt: skip
        assert np.abs(self.said[0] - self.said[1]).max() > 100 * _CLOSE

    def of(self, client: Client) -> Ask:
        def ask() -> int:
            answered = client.predict(self.page)["ctr"]
            close = [
                n for n, said in enumerate(self.said) if np.abs(answered - said).max() < _CLOSE
            ]
            return close[0] if close else -1

        return ask


def _served(shop: Shop, models: Path, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    root = scratch / "served"
    for place, name, version in (("heft", "a", 1), ("labelled", "a", 1), ("labelled", "b", 2)):
        shutil.copytree(models / name, root / place / str(version))
    both, alone = (_config(scratch / f"{len(names)}.config", root, names)
                   for names in (("heft", "labelled"), ("heft",)))  # fmt: skip
    move_labels(both, {"stable": 1, "canary": 1}, "labelled")
    asked, server = _Asked(shop, models), Server(scratch, both)
    server.start()
    try:
        figures, faults = _under_load(asked, server, models, root, both, options.seconds)
    finally:
        code = server.stop()
    server = Server(scratch, alone)
    server.start()
    try:
        figures["restart_s"], more = _faults(asked, server, models, root)
        statuses, growth = fuzzed(server.rest, server.process.pid, options.fuzz, COLUMNS)
        figures |= {"fuzz_growth_mib": round(growth, 1), "fuzzed": sum(statuses.values())}
    finally:
        code = code or server.stop()
    faults += more + ([f"the server ended with code {code}"] if code else [])
    for fault in faults[:20]:
        print(fault)
    return figures | {"failures": len(faults)}


def _config(path: Path, root: Path, names: Sequence[str]) -> Path:
    entries = "".join(
        f'config {{ name: "{n}" base_path: "{root / n}" model_platform: "tensorflow" }}\n'
        for n in names
    )
    path.write_text(f"model_config_list {{\n{entries}}}\n")
    return path


def _under_load(
    asked: _Asked, server: Server, models: Path, root: Path, config: Path, seconds: float
) -> tuple[dict[str, Any], list[str]]:
    plain = [Client(target, retries=0) for target in (server.rest, server.grpc)]
    canary = [Client(t, "labelled", label="canary", retries=0) for t in (server.rest, server.grpc)]
    asks = {"heft": [asked.of(c) for c in plain * 2], "canary": [asked.of(c) for c in canary]}
    most = capacity(asks["heft"], min(10.0, seconds), callers=4)
    changes: list[Change] = []
    with Load(asks, 0.8 * most, seconds, callers=32) as load:
        began, states = time.monotonic(), plain[0].states
        for swap in range(SWAPS):
            time.sleep(max(0.0, began + (swap + 0.5) * seconds / (SWAPS + 1) - time.monotonic()))
            version = swap + 2
            changed = time.monotonic()
            _push(models / "ab"[(swap + 1) % 2], root / "heft" / str(version))
            _until(lambda old=version - 1: states().get(old) == "END")
            changes.append(Change("heft", changed, time.monotonic(), swap % 2, (swap + 1) % 2))
            if swap == SWAPS // 2:
                changed = time.monotonic()
                move_labels(config, {"canary": 2}, "labelled")
                _until(lambda: asks["canary"][0]() == 1)
                changes.append(Change("canary", changed, time.monotonic(), 0, 1))
    faults = load.faults({"heft": 0, "canary": 0}, changes)
    taken = [1e3 * (one.ended - one.begun) for one in load.sent]
    for client in (*plain, *canary):
        client.close()
    return {
        "requests_per_s": round(most, 1), "load_requests": len(load.sent),
        "p99_load_ms": round(float(np.percentile(taken, 99)), 1),
    }, faults  # fmt: skip


def _push(model: Path, target: Path) -> None:
    draft = target.with_name(f".draft-{target.name}")
    shutil.copytree(model, draft)
    draft.rename(target)


def _until(over: Callable[[], bool]) -> None:
    while not over():
        time.sleep(0.05)


def _faults(asked: _Asked, server: Server, models: Path, root: Path) -> tuple[float, list[str]]:
    """A corrupt version and a half-copied one land, then the server is killed."""
    faults = []
    newest = max(int(p.name) for p in (root / "heft").iterdir() if p.name.isdecimal())
    half, corrupt = root / "heft" / str(newest + 1), root / "heft" / f".draft-{newest + 2}"
    left_out = shutil.ignore_patterns("saved_model.pb")
    shutil.copytree(models / "b", half, ignore=left_out)
    shutil.copytree(models / "b", corrupt)
    data = corrupt / "variables" / "variables.data-00000-of-00001"
    with data.open("r+b") as file:
        file.truncate(data.stat().st_size // 2)
    corrupt.rename(root / "heft" / str(newest + 2))
    with Client(server.rest) as client:
        deadline = time.monotonic() + 60
        while client.states().get(newest + 2) != "END" and time.monotonic() < deadline:
            time.sleep(0.1)
        served = [v for v, state in client.states().items() if state == "AVAILABLE"]
        if served != [newest]:
            faults.append(f"versions {served} are served beside a corrupt one")
    server.kill()
    seconds = server.start()
    with Client(server.rest) as client:
        if asked.of(client)() != (newest - 1) % 2:
            faults.append("after a restart another model answers")
    if seconds > _RESTART_SECONDS:
        faults.append(f"serving again {seconds:.1f} s after it was killed")
    return round(seconds, 1), faults


if __name__ == "__main__":
    main()
