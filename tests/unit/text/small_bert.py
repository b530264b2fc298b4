"""A BERT of two narrow layers with random weights, as a Hugging Face folder."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from heft.text.checkpoint import find_checkpoint

__all__ = ["write_small_bert"]

WIDTH, INNER, HEADS, LAYERS, POSITIONS = 32, 64, 4, 2, 32


def write_small_bert(folder: Path, *, prefix: str = "", seed: int = 0) -> Path:
    """Writes the folder; its vocabulary and its tokeniser are MiniLM's."""
    rng = np.random.default_rng(seed)
    source = find_checkpoint("minilm")
    words = len(source.vocabulary())

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.2).astype(np.float32)

    tensors = {
        "embeddings.word_embeddings.weight": normal(words, WIDTH),
        "embeddings.position_embeddings.weight": 0.1 * normal(POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": 0.1 * normal(2, WIDTH),
        "pooler.dense.weight": normal(WIDTH, WIDTH),
        "pooler.dense.bias": normal(WIDTH),
    }
    shapes = {
        "attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH),
        "attention.self.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH),
        "intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER),
    }  # fmt: skip
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            tensors[f"encoder.layer.{layer}.{name}.weight"] = normal(*shape)
            tensors[f"encoder.layer.{layer}.{name}.bias"] = normal(shape[0])
        norms += [f"encoder.layer.{layer}.{x}.LayerNorm" for x in ("attention.output", "output")]
    for name in norms:
        tensors[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        tensors[f"{name}.bias"] = np.zeros(WIDTH, np.float32)
    folder.mkdir(parents=True)
    save_file({prefix + k: v for k, v in tensors.items()}, folder / "model.safetensors")
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_size": WIDTH,
        "intermediate_size": INNER, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "vocab_size": words,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("vocab.txt", "tokenizer_config.json"):
        (folder / name).write_bytes((source.folder / name).read_bytes())
    return folder
