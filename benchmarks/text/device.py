"""The encoder on an accelerator: texts a second in float32 and in bfloat16, and how near both are.

    .venv/bin/python -m benchmarks.text.device pack runs/device-text
    python runs/device-text/device.py run runs/device-text

`pack` writes what `run` needs, some 50 MB: the checkpoint with its weights in float16, the token
ids of 20,000 titles of home_depot, the vectors that Heft's encoder on a CPU gives 200 of them in
float32, and this file. `run` is for a machine of another kind: it needs NumPy, Keras and
KerasHub on any backend (KERAS_BACKEND; JAX unless said otherwise) and, for the figure of the peer,
sentence-transformers; nothing of Heft. It takes a minute. Heft's figure begins with token ids, the
peer's with texts, which it tokenises on the processor. The last line is one JSON object.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TITLES, REFERENCES = 20_000, 200
MAX_TOKENS, STEP, BATCH_TOKENS = 64, 8, 65_536
ROUNDS = 3
POLICIES = ("float32", "mixed_bfloat16")

Array = np.ndarray


def pack(folder: Path) -> None:
    """Writes weights, token ids and reference vectors."""
    from safetensors.numpy import load_file, save_file

    from benchmarks.text.titles import home_depot_titles
    from heft.text.checkpoint import find_checkpoint
    from heft.text.embed import embed
    from heft.text.encoder import load_encoder
    from heft.text.settings import TextSettings

    checkpoint, encoder = find_checkpoint("minilm"), load_encoder(TextSettings())
    model = folder / "model"
    shutil.rmtree(folder, ignore_errors=True)
    (model / "1_Pooling").mkdir(parents=True)
    for source in checkpoint.folder.rglob("*.json"):
        if source.name != "data_config.json":
            shutil.copyfile(source, model / source.relative_to(checkpoint.folder))
    shutil.copyfile(checkpoint.folder / "vocab.txt", model / "vocab.txt")
    weights = load_file(checkpoint.folder / "model.safetensors")
    floats = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in weights.items()}
    # Transformers wants to be told whose tensors these are.
    save_file(floats, model / "model.safetensors", metadata={"format": "pt"})
    titles = home_depot_titles(TITLES)
    tokens = encoder.tokenize_batch(titles)
    np.savez_compressed(
        folder / "titles.npz",
        ids=tokens.flat_values.numpy().astype(np.uint16), lengths=tokens.row_lengths().numpy(),
        references=embed(titles[:REFERENCES], encoder),
    )  # fmt: skip
    (folder / "titles.json").write_text(json.dumps(titles), encoding="utf-8")
    shutil.copyfile(__file__, folder / "device.py")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.0f} MiB")


def run(folder: Path) -> dict[str, Any]:
    """Figures of this machine."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    with np.load(folder / "titles.npz") as columns:
        ids, lengths, references = columns["ids"], columns["lengths"], columns["references"]
    batches = make_batches(ids.astype(np.int32), lengths)
    found: dict[str, Any] = {
        "backend": keras.backend.backend(), "device": _device(), "titles": len(lengths),
        "tokens": int(lengths.sum()),
    }  # fmt: skip
    for policy in POLICIES:
        vectors, seconds, compiling = _measure(folder / "model", policy, batches, len(lengths))
        cosine = np.einsum("nd,nd->n", vectors[: len(references)], references)
        found[policy] = {
            "texts_per_second": round(len(lengths) / seconds),
            "compiling_s": round(compiling, 1),
            "cosine_min": round(float(cosine.min()), 6),
        }
        print(policy, found[policy], flush=True)
    found["sentence_transformers"] = _peer(folder)
    return found


def make_batches(ids: Array, lengths: Array) -> list[tuple[Array, Array, Array]]:
    """Rows, ids and mask of batches of few shapes: lengths in steps, as many rows as fit."""
    starts = np.cumsum(lengths) - lengths
    padded = np.maximum(-(-lengths // STEP) * STEP, STEP)
    batches = []
    for length in np.unique(padded):
        rows, size = np.flatnonzero(padded == length), BATCH_TOKENS // int(length)
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            # The last batch is filled with its first text, so that no new shape is compiled.
            full = np.append(part, np.repeat(part[:1], size - len(part)))
            columns = np.arange(length)
            mask = columns < lengths[full][:, np.newaxis]
            places = np.where(mask, starts[full][:, np.newaxis] + columns, 0)
            batches.append((part, np.where(mask, ids[places], 0), mask.astype(np.int32)))
    return batches


def _measure(
    model: Path, policy: str, batches: list[tuple[Array, Array, Array]], count: int
) -> tuple[Array, float, float]:
    """Vectors (count, dim), the median of the seconds, and those of the first, compiling, round."""
    encode, dim = _encoder(model, policy)
    vectors, seconds = np.empty((count, dim), np.float32), []
    for _ in range(1 + ROUNDS):
        began = time.perf_counter()
        # What is asked of an accelerator comes back later: ask for everything, then wait.
        waiting = [(rows, encode(ids, mask)) for rows, ids, mask in batches]
        for rows, found in waiting:
            vectors[rows] = np.asarray(found)[: len(rows)]
        seconds.append(time.perf_counter() - began)
    steady = float(np.median(seconds[1:]))
    return vectors, steady, seconds[0] - steady


def _encoder(model: Path, policy: str) -> tuple[Callable[[Array, Array], Any], int]:
    """Ids and mask to unit vectors: KerasHub's BERT and a mean over tokens, compiled."""
    import keras
    import keras_hub

    dtype = keras.dtype_policies.get(policy)
    backbone = keras_hub.models.BertBackbone.from_preset(str(model), dtype=dtype)
    inputs = {
        name: keras.Input([None], dtype="int32", name=name)
        for name in ("token_ids", "segment_ids", "padding_mask")
    }
    states = keras.ops.cast(backbone(inputs)["sequence_output"], "float32")
    weights = keras.ops.cast(inputs["padding_mask"], "float32")[..., None]
    pooled = keras.ops.sum(states * weights, 1) / keras.ops.sum(weights, 1)
    whole = keras.Model(inputs, keras.ops.normalize(pooled, axis=-1))

    def feed(ids: Array, mask: Array) -> dict[str, Array]:
        return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": mask}

    if keras.backend.backend() == "jax":
        import jax

        trainable = [v.value for v in whole.trainable_variables]
        other = [v.value for v in whole.non_trainable_variables]
        compiled = jax.jit(lambda t, o, x: whole.stateless_call(t, o, x, training=False)[0])
        return lambda ids, mask: compiled(trainable, other, feed(ids, mask)), backbone.hidden_dim
    return lambda ids, mask: whole.predict_on_batch(feed(ids, mask)), backbone.hidden_dim


def _peer(folder: Path) -> dict[str, Any]:
    """sentence-transformers on the same device, in both precisions, batches of 256."""
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        return {"unavailable": str(error)}
    titles = json.loads((folder / "titles.json").read_text(encoding="utf-8"))
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        model = SentenceTransformer(
            str(folder / "model"), local_files_only=True, model_kwargs={"torch_dtype": dtype}
        )
        model.max_seq_length = MAX_TOKENS
        model.encode(titles[:1024], batch_size=256)
        seconds = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            model.encode(titles, batch_size=256)
            seconds.append(time.perf_counter() - began)
        found[name] = round(len(titles) / float(np.median(seconds)))
    return found


def _device() -> str:
    import keras

    if keras.backend.backend() == "jax":
        import jax

        return str(jax.devices()[0].device_kind)
    return "unknown"


def main() -> None:
    """Packs or runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("pack", "run"))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.step == "pack":
        pack(options.folder)
        return
    sys.stdout.flush()
    print(json.dumps(run(options.folder)))


if __name__ == "__main__":
    main()
