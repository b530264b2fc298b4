from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from bert_reference import encode
from tensorflow.core.protobuf import saved_model_pb2

from heft.text.checkpoint import Checkpoint
from heft.text.embed import Progress, embed
from heft.text.encoder import TextEncoder

TEXTS = [
    "cordless drill",
    "",
    "a very long title " * 30,
    "Café crème, 250 g",
    "18-Volt ONE+ Lithium-Ion Cordless Drill/Driver Kit",
    "中文 and English",
    "x",
]


def vectors(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    result: np.ndarray = encoder(tf.constant(texts, tf.string)).numpy()
    return result


def test_vectors_equal_bert_written_out(encoder: TextEncoder, checkpoint: Checkpoint) -> None:
    tokens = encoder.tokenizer(tf.constant(TEXTS)).to_list()
    got = vectors(encoder, TEXTS)
    assert got.shape == (len(TEXTS), 384)
    assert got.dtype == np.float32
    for row, ids in zip(got, tokens, strict=True):
        want = encode(checkpoint.folder, ids, heads=12, pooling="mean")
        # KerasHub's BERT has the tanh form of GELU; the original has erf.
        assert row @ want > 0.99998


def test_cls_pooling_equals_bert_written_out(encoder: TextEncoder, checkpoint: Checkpoint) -> None:
    first = TextEncoder(
        encoder.backbone, encoder.tokenizer, replace(checkpoint, pooling="cls"), "cls"
    )
    tokens = encoder.tokenizer(tf.constant(TEXTS[:3])).to_list()
    for row, ids in zip(vectors(first, TEXTS[:3]), tokens, strict=True):
        assert row @ encode(checkpoint.folder, ids, heads=12, pooling="cls") > 0.9999


def test_a_text_has_the_same_vector_in_any_company(encoder: TextEncoder) -> None:
    together = vectors(encoder, TEXTS)
    alone = np.concatenate([vectors(encoder, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_no_text_gives_no_row_in_and_out_of_a_graph(encoder: TextEncoder) -> None:
    none = tf.constant([], tf.string)
    assert encoder(none).shape == (0, 384)
    graph = tf.function(encoder, input_signature=[tf.TensorSpec([None], tf.string)])
    assert graph(none).shape == (0, 384)


def test_many_texts_go_through_the_graph_with_little_padding(encoder: TextEncoder) -> None:
    """One long text among many short ones must not make the short ones long."""
    texts = [f"{i} " + "drill " * (60 if i == 300 else i % 7) for i in range(600)]
    shapes: list[tuple[int, int]] = []
    real = encoder.encode_batch

    def measure(tokens: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        shapes.append(tuple(tokens.shape))
        # The number that a text begins with is its first token after [CLS].
        return tf.repeat(tf.cast(tokens[:, 1:2], tf.float32), encoder.dim, axis=1)

    encoder.encode_batch = measure
    try:
        got = encoder(tf.constant(texts)).numpy()
    finally:
        encoder.encode_batch = real
    first = encoder.tokenizer(tf.constant(texts)).to_tensor()[:, 1]
    assert np.array_equal(got[:, 0], first.numpy()), "a vector belongs to another text"
    assert len(shapes) > 2 and max(rows * length for rows, length in shapes) <= 2048
    padded = sum(rows * length for rows, length in shapes)
    assert padded < 0.2 * len(texts) * max(length for _, length in shapes)


def test_alike_texts_are_nearer_than_others(encoder: TextEncoder) -> None:
    alike = [
        ("cordless drill", "battery powered drill driver"),
        ("garden hose", "50 ft. water hose for the yard"),
        ("laptop bag", "notebook carrying case"),
        ("led bulb", "energy saving light bulb"),
    ]
    left = vectors(encoder, [a for a, _ in alike])
    right = vectors(encoder, [b for _, b in alike])
    cosine = left @ right.T
    assert (cosine.argmax(axis=1) == np.arange(len(alike))).all()
    assert np.diag(cosine).min() > cosine[~np.eye(len(alike), dtype=bool)].max()


def test_accents_and_case_do_not_move_a_text(encoder: TextEncoder) -> None:
    accented, plain = vectors(encoder, ["CAFÉ Crème", "cafe creme"])
    np.testing.assert_allclose(accented, plain, atol=1e-6)


def test_what_embed_writes_is_what_the_saved_graph_computes(
    encoder: TextEncoder, tmp_path: Path
) -> None:
    archive = keras.export.ExportArchive()
    archive.track(encoder.backbone)
    archive.add_endpoint(
        "embed", encoder.__call__, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    (name,) = served.structured_input_signature[1]
    (got,) = served(**{name: tf.constant(TEXTS)}).values()
    assert (embed(TEXTS, encoder, batch_size=2) * got.numpy()).sum(axis=1).min() >= 0.9999
    (none,) = served(**{name: tf.constant([], tf.string)}).values()
    assert none.shape == (0, 384)
    # What stock servers link of TensorFlow Text; all else is registered by TensorFlow itself.
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "saved/saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    ops = {node.op for node in graph.node}
    ops |= {node.op for inner in graph.library.function for node in inner.node_def}
    foreign = {op for op in ops if ">" in op or "Text" in op}
    linked = {"CaseFoldUTF8", "FastWordpieceTokenizeWithOffsets", "RegexSplitWithOffsets"}
    assert {op.removeprefix("TFText>") for op in foreign} <= linked
    assert not {op for op in ops if op.startswith(("_", "Xla"))}, "what one build has alone"


def test_embed_keeps_order_and_encodes_each_text_once(encoder: TextEncoder) -> None:
    texts: list[bytes | str] = [*TEXTS, TEXTS[0].encode(), *TEXTS[::-1]]
    seen: list[Progress] = []
    got = embed(texts, encoder, batch_size=3, batch_tokens=40, progress=seen.append)
    np.testing.assert_allclose(got, vectors(encoder, [*TEXTS, TEXTS[0], *TEXTS[::-1]]), atol=2e-6)
    assert np.array_equal(got[0], got[len(TEXTS)])
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert (seen[-1].done, seen[-1].total) == (len(TEXTS), len(TEXTS))
    assert seen[-1].seconds_left == 0


def test_progress_counts_down(encoder: TextEncoder) -> None:
    seen: list[Progress] = []
    embed([f"drill {i}" for i in range(100)], encoder, batch_size=3, progress=seen.append)
    assert len(seen) > 1 and [step.total for step in seen] == [100] * len(seen)
    assert [step.done for step in seen] == sorted({step.done for step in seen})
    assert seen[-1].seconds_left == 0 < seen[0].seconds_left
    assert all(step.texts_per_second > 0 for step in seen)


def test_embed_nothing(encoder: TextEncoder) -> None:
    assert embed([], encoder).shape == (0, 384)


def test_batches_hold_little_padding(encoder: TextEncoder) -> None:
    """Sorted by tokens, less than a tenth of what goes through BERT is padding."""
    rng = np.random.default_rng(5)
    texts = [" ".join(["drill"] * n) for n in rng.integers(1, 40, 200)]
    texts = [f"{i} {text}" for i, text in enumerate(texts)]
    shapes: list[tuple[int, int]] = []
    real = encoder.encode_batch

    def measure(tokens: np.ndarray, mask: np.ndarray) -> tf.Tensor:
        shapes.append((tokens.size, int(mask.sum())))
        return tf.zeros((len(tokens), encoder.dim))

    encoder.encode_batch = measure
    try:
        embed(texts, encoder, batch_size=64, batch_tokens=512)
    finally:
        encoder.encode_batch = real
    padded, tokens = np.array(shapes).sum(axis=0)
    assert tokens / padded > 0.9
    assert max(size for size, _ in shapes) <= 512
