"""Other precisions and several devices give nearly the vectors of float32 on one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heft.errors import EncoderError
from heft.text import precision, quantised
from heft.text.checkpoint import Checkpoint
from heft.text.embed import embed
from heft.text.encoder import TextEncoder
from heft.text.precision import batch_encoder

TEXTS = [
    "cordless drill", "", "a very long title " * 30, "Café crème, 250 g", "中文 and English", "x",
    "18-Volt ONE+ Lithium-Ion Cordless Drill/Driver Kit", "!!!! ???? ....", "garden hose 50 ft.",
]  # fmt: skip


@pytest.fixture(scope="module")
def exact(encoder: TextEncoder) -> np.ndarray:
    return np.concatenate([encoder([text]).numpy() for text in TEXTS])


@pytest.mark.parametrize(
    ("name", "least"), [("float32", 0.999999), ("bfloat16", 0.999), ("int8", 0.99)]
)
def test_every_precision_is_near_the_served_graph(
    encoder: TextEncoder, exact: np.ndarray, name: str, least: float
) -> None:
    got = embed(TEXTS, encoder, batch_size=3, batch_tokens=80, precision=name)
    assert got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    assert (got * exact).sum(axis=1).min() >= least


def test_int8_is_near_where_sums_of_its_products_overflow_sixteen_bits(
    encoder: TextEncoder, exact: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    exact_sums = {"avx512_vnni", "avx_vnni"} & set(flags)
    assert quantised.largest_weight() in ((127,) if exact_sums else (127, 64))
    monkeypatch.setattr(quantised, "largest_weight", lambda: 64)
    assert 2 * 255 * 64 < 2**15, "the largest two products"
    assert (embed(TEXTS, encoder, precision="int8") * exact).sum(axis=1).min() >= 0.99


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_int8_pools_as_the_checkpoint_says(
    encoder: TextEncoder, checkpoint: Checkpoint, pooling: str
) -> None:
    other = TextEncoder(
        encoder.backbone, encoder.tokenizer, replace(checkpoint, pooling=pooling), "other"
    )
    want = np.concatenate([other([text]).numpy() for text in TEXTS])
    assert (embed(TEXTS, other, precision="int8") * want).sum(axis=1).min() >= 0.99
    assert (embed(TEXTS, other) * want).sum(axis=1).min() >= 0.999999


def test_int8_that_is_far_from_float32_is_refused(
    encoder: TextEncoder, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def saturated(*_args: object, **_more: object) -> object:
        return lambda tokens, mask: np.full((len(tokens), 384), 384**-0.5, np.float32)

    monkeypatch.setattr(precision, "quantised_encoder", saturated)
    other = TextEncoder(encoder.backbone, encoder.tokenizer, checkpoint, "other")
    with pytest.raises(EncoderError, match=r"cosine of .* on this processor.*choose 'float32'"):
        batch_encoder(other, "int8")


def test_int8_is_not_for_accelerators(encoder: TextEncoder) -> None:
    with pytest.raises(EncoderError, match="there is GPU:0; expected 'float32' or 'bfloat16'"):
        batch_encoder(encoder, "int8", devices=["GPU:0"])


# Devices can be split only before TensorFlow has begun, hence a process of its own.
_TWO_DEVICES = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from heft.text.embed import Tokens, encode_tokens
from heft.text.encoder import load_encoder
from heft.text.precision import batch_encoder
from heft.text.settings import TextSettings
encoder = load_encoder(TextSettings())
lengths = np.array([5, 3, 9, 2, 7, 7, 4])
tokens = Tokens(np.random.default_rng(0).integers(1000, 30000, lengths.sum(), np.int32), lengths)
one = encode_tokens(tokens, batch_encoder(encoder), 2, 100)
spread = batch_encoder(encoder, devices=["CPU:0", "CPU:1"])
calls = []
seen = encode_tokens(tokens, spread, 2, 100, lambda texts, _: calls.append(texts))
assert spread.width == 8, spread.width
np.testing.assert_allclose(seen, one, atol=1e-5)
print("same", calls)
"""


def test_two_devices_give_what_one_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("same [7]"), done.stderr[-2000:]
