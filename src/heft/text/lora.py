"""Low-rank adapters in a BERT, and the checkpoint that they make."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from heft.errors import EncoderError
from heft.text.checkpoint import fingerprint

__all__ = ["FACTS_FILE", "adapter_weights", "add_adapters", "parent_of", "write_checkpoint"]

FACTS_FILE = "heft_finetune.json"

# Properties of KerasHub's attention, and Hugging Face's names.
_LAYERS = {
    "query": ("query_dense", "attention.self.query"),
    "key": ("key_dense", "attention.self.key"),
    "value": ("value_dense", "attention.self.value"),
    "attention_output": ("output_dense", "attention.output.dense"),
}
_COPIED = (".json", ".txt", ".md")


def add_adapters(backbone: keras.Model, rank: int, targets: Sequence[str], seed: int) -> None:
    """Freezes `backbone` but for new adapters W + A·B of `targets` (Hu et al. 2022, *LoRA*).

    B begins at 0, so that nothing changes yet; A is drawn anew from `seed`, so that the same
    seed gives the same adapters in any process.
    """
    # KerasHub names the layers as the settings do.
    backbone.enable_lora(rank, target_layer_names=list(targets))
    rng, limit = np.random.default_rng(seed), np.sqrt(6 / backbone.hidden_dim)
    for layer, _ in _adapted(backbone, targets):
        shape = layer.lora_kernel_a.shape
        layer.lora_kernel_a.assign(rng.uniform(-limit, limit, shape).astype(np.float32))


def adapter_weights(backbone: keras.Model, targets: Sequence[str]) -> list[keras.Variable]:
    """A and B of every adapter, in a fixed order; biases are left as they are."""
    layers = [layer for layer, _ in _adapted(backbone, targets)]
    return [x for layer in layers for x in (layer.lora_kernel_a, layer.lora_kernel_b)]


def write_checkpoint(
    backbone: keras.Model, targets: Sequence[str], parent: Path, folder: Path, facts: dict[str, Any]
) -> None:
    """A Hugging Face folder like `parent`, with the adapters merged into its weights.

    Configs and vocabulary are copied, so that it tokenises and pools alike; tensors without an
    adapter are taken over bit by bit. `heft_finetune.json` names the parent's fingerprint.
    The folder is there as a whole or not at all.

    Raises:
        EncoderError: the parent's files do not hold a weight that was trained.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for path in sorted(p for p in parent.rglob("*") if p.is_file() and p.suffix in _COPIED):
        target = part / path.relative_to(parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    merged = {
        name: np.asarray(keras.ops.convert_to_numpy(layer.kernel))
        for layer, name in _adapted(backbone, targets)
    }
    for path in sorted(parent.glob("*.safetensors")):
        _write_tensors(path, part / path.name, merged)
    if merged:
        raise EncoderError(
            f"{parent}: no tensor {next(iter(merged))} in its safetensors; expected the names of "
            "Hugging Face's BertModel, with or without 'bert.' before them"
        )
    stated = {"parent": fingerprint(parent), **facts}
    (part / FACTS_FILE).write_text(json.dumps(stated, indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def parent_of(folder: Path) -> str | None:
    """The fingerprint that a folder was fine-tuned from; None of one that was not."""
    path = folder / FACTS_FILE
    return str(json.loads(path.read_text(encoding="utf-8"))["parent"]) if path.is_file() else None


def _adapted(backbone: keras.Model, targets: Sequence[str]) -> list[tuple[Any, str]]:
    """Layers with an adapter, and their tensor's name at Hugging Face."""
    found = []
    for number, block in enumerate(backbone.transformer_layers):
        attention = block._self_attention_layer
        for target in sorted(targets):
            own, theirs = _LAYERS[target]
            found.append((getattr(attention, own), f"encoder.layer.{number}.{theirs}.weight"))
    return found


def _write_tensors(source: Path, target: Path, merged: dict[str, np.ndarray]) -> None:
    """Copies a file of tensors, with those in `merged`, which are taken out of it, replaced."""
    # TensorFlow's flavour: NumPy has no bfloat16.
    import tensorflow as tf
    from safetensors import safe_open
    from safetensors.tensorflow import load_file, save_file

    tensors = load_file(str(source))
    for name in list(merged):
        key = next((k for k in (name, f"bert.{name}") if k in tensors), None)
        if key is not None:
            kernel, old = merged.pop(name), tensors[key]
            rows = kernel.size // old.shape[0]
            tensors[key] = tf.constant(kernel.reshape(rows, old.shape[0]).T, tf.float32)
    with safe_open(str(source), framework="tf") as opened:
        metadata = opened.metadata()
    save_file(tensors, str(target), metadata=metadata)
