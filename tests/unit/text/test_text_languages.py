"""Checkpoints of other languages, as the hub holds them, with small random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from bert_reference import encode
from safetensors.numpy import save_file
from transformers import BertTokenizer

from heft.errors import EncoderError
from heft.text.checkpoint import read_checkpoint
from heft.text.embed import embed
from heft.text.encoder import load_encoder
from heft.text.settings import TextSettings

DIM, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 4, 64, 40
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LATIN = [chr(c) for c in range(ord("!"), ord("~") + 1)]
CHINESE = [chr(c) for c in range(0x4E00, 0x5200)] + ["蓝", "牙", "耳", "机", "米", "，", "。"]
MANY = [*list("ÄÖÜßäöüéèñçжёйабвгдеклмнопрстуяΣςσ한국어กขทيةرع"), "Straße", "##ße", "дрель"]
FLAVOURS = {
    # As bert-base-chinese and bert-base-multilingual-cased name and flag things.
    "chinese": (CHINESE, {"do_lower_case": False}, "bert.", ("gamma", "beta")),
    "multilingual": (MANY, {"do_lower_case": False}, "bert.", ("weight", "bias")),
    "multilingual uncased": (MANY, {"do_lower_case": True}, "", ("weight", "bias")),
}
TEXTS = [
    "蓝牙耳机", "蓝牙 headphones，2 米。", "", "Straße 12, дрель Äpfel", "ΣΑΣ σας 한국어 กข",
    "x" * 120, "丁" * 60, "مثقاب كهربائي", "ЁЛКА école",
]  # fmt: skip


def checkpoint_of(folder: Path, flavour: str) -> Path:
    """A folder with the files of a checkpoint."""
    letters, flags, prefix, norm = FLAVOURS[flavour]
    pieces = [*LATIN, *letters]
    vocabulary = [*SPECIAL, *pieces, *(f"##{p}" for p in pieces if not p.startswith("##"))]
    vocabulary = list(dict.fromkeys(vocabulary))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    config = {
        "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": len(vocabulary),
        "hidden_size": DIM, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "intermediate_size": WIDE, "max_position_embeddings": POSITIONS, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(flags))
    rng = np.random.default_rng(3)
    shapes = {
        "embeddings.word_embeddings.weight": (len(vocabulary), DIM),
        "embeddings.position_embeddings.weight": (POSITIONS, DIM),
        "embeddings.token_type_embeddings.weight": (2, DIM),
        "cls.predictions.bias": (len(vocabulary),),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name, (wide, narrow) in {
            "attention.self.query": (DIM, DIM), "attention.self.key": (DIM, DIM),
            "attention.self.value": (DIM, DIM), "attention.output.dense": (DIM, DIM),
            "intermediate.dense": (WIDE, DIM), "output.dense": (DIM, WIDE),
        }.items():  # fmt: skip
            shapes |= {f"{at}.{name}.weight": (wide, narrow), f"{at}.{name}.bias": (wide,)}
    norms = ["embeddings.LayerNorm"] + [
        f"encoder.layer.{layer}.{part}.LayerNorm"
        for layer in range(LAYERS)
        for part in ("attention.output", "output")
    ]
    for at in norms:
        shapes |= {f"{at}.{norm[0]}": (DIM,), f"{at}.{norm[1]}": (DIM,)}
    weights = {
        name if name.startswith("cls.") else f"{prefix}{name}": rng.normal(0, 0.3, shape).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_other_languages_have_the_ids_of_transformers_and_the_vectors_of_bert(
    tmp_path: Path, flavour: str
) -> None:
    folder = checkpoint_of(tmp_path, flavour)
    encoder = load_encoder(TextSettings(encoder=str(folder), max_tokens=POSITIONS))
    reference = BertTokenizer.from_pretrained(folder)
    want = reference(TEXTS, truncation=True, max_length=POSITIONS)["input_ids"]
    got = encoder.tokenizer(tf.constant(TEXTS)).to_list()
    assert got == want
    unknown = sum(ids.count(reference.unk_token_id) for ids in want[:3])
    assert (unknown == 0) == (flavour == "chinese"), "the vocabulary is read"
    exact = np.array([encode(folder, ids, HEADS, "mean") for ids in want])
    graph = encoder(tf.constant(TEXTS)).numpy()
    assert (graph * exact).sum(axis=1).min() > 0.9999
    assert (embed(TEXTS, encoder) * graph).sum(axis=1).min() > 0.999999
    assert (embed(TEXTS, encoder, precision="int8") * graph).sum(axis=1).min() > 0.99


def test_vectors_follow_weights_that_fine_tuning_changes(tmp_path: Path) -> None:
    folder = checkpoint_of(tmp_path, "chinese")
    encoder = load_encoder(TextSettings(encoder=str(folder), max_tokens=POSITIONS))
    before = embed(TEXTS, encoder), embed(TEXTS, encoder, precision="int8")
    rng = np.random.default_rng(5)
    weights = [w + rng.normal(0, 0.2, w.shape) for w in encoder.backbone.get_weights()]
    encoder.backbone.set_weights(weights)
    graph = encoder(tf.constant(TEXTS)).numpy()
    assert (before[0] * graph).sum(axis=1).max() < 0.98
    assert (embed(TEXTS, encoder) * graph).sum(axis=1).min() > 0.999999
    assert (embed(TEXTS, encoder, precision="int8") * graph).sum(axis=1).min() > 0.99


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act='relu'.*expected 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type='relative_key'"),
    ],
)
def test_a_bert_that_computes_otherwise_is_refused(
    tmp_path: Path, values: dict[str, str], message: str
) -> None:
    folder = checkpoint_of(tmp_path, "chinese")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))
    with pytest.raises(EncoderError, match=message):
        read_checkpoint(folder)
