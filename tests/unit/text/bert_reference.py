"""BERT, slow and obvious: the oracle of the encoder's tests.

Devlin et al., 2019, written out in NumPy and float64 over the checkpoint's own weights.
"""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf, softmax

__all__ = ["encode"]


@lru_cache(maxsize=1)
def _weights(folder: Path) -> dict[str, np.ndarray]:
    found = load_file(folder / "model.safetensors")
    names = (("bert.", ""), ("LayerNorm.gamma", "LayerNorm.weight"), ("Norm.beta", "Norm.bias"))
    weights = {}
    for key, value in found.items():
        for old, new in names:
            key = key.replace(old, new)
        weights[key] = value.astype(np.float64)
    return weights


def encode(folder: Path, tokens: list[int], heads: int, pooling: str) -> np.ndarray:
    """The unit vector, (dim,) float64, of one text, without padding."""
    weights = _weights(folder)
    config = json.loads((folder / "config.json").read_text())
    epsilon = config.get("layer_norm_eps", 1e-12)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + epsilon)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = (
        weights["embeddings.word_embeddings.weight"][tokens]
        + weights["embeddings.position_embeddings.weight"][: len(tokens)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    layers = sum(name.endswith("attention.self.query.weight") for name in weights)
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            linear(x, f"{at}.attention.self.{part}").reshape(len(x), heads, -1).swapaxes(0, 1)
            for part in ("query", "key", "value")
        )
        attention = softmax(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]), axis=-1)
        mixed = (attention @ v).swapaxes(0, 1).reshape(x.shape)
        mixed = linear(mixed, f"{at}.attention.output.dense")
        x = norm(x + mixed, f"{at}.attention.output.LayerNorm")
        hidden = linear(x, f"{at}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + erf(hidden / np.sqrt(2)))
        x = norm(x + linear(hidden, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    pooled = x[0] if pooling == "cls" else x.mean(0)
    return pooled / np.linalg.norm(pooled)
