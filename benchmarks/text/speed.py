"""Texts a second beside sentence-transformers, and what reduced precision costs."""

import itertools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.importance.peer_environments import Peer, prepare
from benchmarks.text.titles import home_depot_pairs, home_depot_titles
from heft.evaluation.grouped import group_codes, ndcg_at_k
from heft.text.checkpoint import find_checkpoint
from heft.text.embed import embed, encode_tokens, tokenise
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.precision import batch_encoder
from heft.text.settings import Precision, TextSettings

__all__ = ["measure"]

SCRIPTS = Path(__file__).parent / "peer_scripts"
PEER = Peer("sentence_transformers", "5 GB on disk, since it brings PyTorch with CUDA", SCRIPTS)
NAMES = ("sentence_transformers", "float32", "reduced")

Array = np.ndarray

_TRIAL = 400


class _PeerProcess:
    """sentence-transformers in its own environment, waiting for chunks."""

    def __init__(self, python: Path, folder: Path, max_tokens: int, waiting: str) -> None:
        self.vectors = folder / "vectors.npy"
        command = [
            str(python), "-W", "ignore", str(SCRIPTS / "sentence_transformers_speed.py"),
            str(find_checkpoint("minilm").folder), str(folder / "texts.json"),
            str(self.vectors), str(max_tokens),
        ]  # fmt: skip
        ours = ("PYTHONPATH", "TF_CPP_MIN_LOG_LEVEL")
        clean = {k: v for k, v in os.environ.items() if k not in ours}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env={**clean, "OMP_WAIT_POLICY": waiting},
        )  # fmt: skip
        self._answer()

    def seconds(self, first: int, end: int) -> tuple[float, ...]:
        """By the clock and of the processor."""
        self._process.stdin.write(f"{first} {end}\n")
        self._process.stdin.flush()
        return tuple(map(float, self._answer().split()))

    def close(self) -> Array:
        self._process.stdin.close()
        self._process.wait()
        return np.load(self.vectors)

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: sentence-transformers ended without an answer")
        return line


def _fastest_peer(python: Path, folder: Path, texts: list[str], max_tokens: int) -> _PeerProcess:
    """With threads that wait for work spinning, or asleep, which an idle machine likes less."""
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    trial = min(_TRIAL, len(texts))
    found = {}
    for waiting in ("ACTIVE", "PASSIVE"):
        peer = _PeerProcess(python, folder, max_tokens, waiting)
        found[waiting] = peer, min(peer.seconds(0, trial)[0] for _ in range(2))
    best = min(found, key=lambda waiting: found[waiting][1])
    for waiting, (peer, seconds) in found.items():
        print(
            f"sentence-transformers, waiting {waiting}: {trial / seconds:.0f} texts/s", flush=True
        )
        if waiting != best:
            peer.close()
    return found[best][0]


def measure(titles: int, chunks: int, reduced: Precision) -> dict[str, Any]:
    """Every chunk of titles by the peer, in float32 and in reduced precision, in turn."""
    python, trouble = prepare(PEER)
    if python is None:
        raise SystemExit(f"error: sentence-transformers could not be installed: {trouble}")
    settings = TextSettings()
    encoder, texts = load_encoder(settings), home_depot_titles(titles)
    precisions: dict[str, Precision] = {"float32": "float32", "reduced": reduced}
    # Loaded and warm before the clock starts, as the peer is: the node loads one for all its texts.
    encoders = {name: batch_encoder(encoder, precision) for name, precision in precisions.items()}

    def ours(name: str, part: list[str]) -> Array:
        tokens = tokenise([text.encode() for text in part], encoder.tokenize_batch)
        return encode_tokens(tokens, encoders[name], settings.batch_size, settings.batch_tokens)

    for name in precisions:
        ours(name, texts[:256])
    vectors = {name: np.empty((len(texts), encoder.dim), np.float32) for name in precisions}
    seconds: dict[str, list[tuple[float, ...]]] = {name: [] for name in NAMES}
    with tempfile.TemporaryDirectory(prefix="heft-text-") as folder:
        peer = _fastest_peer(python, Path(folder), texts, settings.max_tokens)
        bounds = np.linspace(0, len(texts), chunks + 1).astype(int)
        for first, end in itertools.pairwise(bounds):
            seconds[NAMES[0]].append(peer.seconds(first, end))
            for name in precisions:
                began, worked = time.perf_counter(), time.process_time()
                vectors[name][first:end] = ours(name, texts[first:end])
                spent = time.perf_counter() - began, time.process_time() - worked
                seconds[name].append(spent)
            rates = {n: round((end - first) / seconds[n][-1][0]) for n in NAMES}
            print(f"titles {first:,} to {end:,}, texts/s: {rates}", flush=True)
        theirs = peer.close()
    return _figures(texts, seconds, vectors, theirs) | _ranking(encoder, texts, vectors, reduced)


def _figures(
    texts: list[str],
    seconds: dict[str, list[tuple[float, ...]]],
    vectors: dict[str, Array],
    theirs: Array,
) -> dict[str, Any]:
    # (chunks, 2): by the clock and of the processor, which other work disturbs less.
    peer, ours, reduced = (np.array(seconds[name]) for name in NAMES)
    ratio, ratio_reduced = np.median(peer / ours, axis=0), np.median(peer / reduced, axis=0)
    cosine = {name: np.einsum("nd,nd->n", vectors["float32"], other)
              for name, other in (("reduced", vectors["reduced"]), ("peer", theirs))}  # fmt: skip
    return {
        "ratio_sentence_transformers": round(float(ratio[0]), 2),
        "ratio_reduced_precision": round(float(ratio_reduced[0]), 2),
        "cosine_reduced_min": round(float(cosine["reduced"].min()), 5),
        "cosine_reduced_mean": round(float(cosine["reduced"].mean()), 5),
        "cosine_sentence_transformers_min": round(float(cosine["peer"].min()), 6),
        "processor_ratios": [round(float(ratio[1]), 2), round(float(ratio_reduced[1]), 2)],
        "texts_per_second": {
            n: round(len(texts) / sum(t for t, _ in s)) for n, s in seconds.items()
        },
    }


def _ranking(
    encoder: TextEncoder, titles: list[str], vectors: dict[str, Array], reduced: Precision
) -> dict[str, float]:
    """NDCG@10 of the cosine of query and title on human grades, in both precisions."""
    rows = {title: row for row, title in enumerate(titles)}
    pairs = home_depot_pairs(len(titles))
    kept = pairs[pairs.groupby("query")["title"].transform(lambda t: t.isin(rows).all())]
    groups, count = group_codes(kept["query"].to_numpy())
    queries, places = np.unique(kept["query"].to_numpy(), return_inverse=True)
    at = kept["title"].map(rows).to_numpy()
    found = {}
    for name, precision in (("float32", "float32"), ("reduced", reduced)):
        of_queries = embed(queries.tolist(), encoder, precision=precision)
        score = np.einsum("nd,nd->n", of_queries[places], vectors[name][at])
        ndcg = ndcg_at_k(kept["grade"].to_numpy(float), score, groups, 10)
        found[f"ndcg_{name}"] = round(float(ndcg.value(np.ones(len(kept)))), 5)
    return {
        "ndcg_loss_reduced": round(found["ndcg_float32"] - found["ndcg_reduced"], 5),
        **found, "ndcg_queries": count,
    }  # fmt: skip
