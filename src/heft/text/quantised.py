"""BERT in 8-bit integers, run by ONNX Runtime.

Every dense product is int8 by int8: weights are rounded for each output, activations when
they come. ONNX Runtime rounds a whole matrix of activations by one scale, and a few of
BERT's activations are twenty times the others, which would leave those three bits. So
- each token is divided by its own largest entry before a product and multiplied by it
  after, which makes it one scale for each token;
- channels that are large in every token, behind layer normalisation, are divided by
  √(largest activation / largest weight), and their weights multiplied (Xiao et al. 2023,
  *SmoothQuant*, α = ½). The largest activations are those of a few random texts.
Processors without int8 products of their own add two of them in 16 bits, which overflow;
there weights have seven bits, and two products always fit.
Attention, GELU and layer normalisation stay in float32.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from heft.text.weights import Dense, Norm, layers_of, norm_of, position_table

__all__ = ["largest_weight", "quantised_encoder"]

Array = np.ndarray

_CONTRIBUTED = "com.microsoft"  # ONNX Runtime's own operators
_OPSET, _IR_VERSION = 17, 8
_EIGHT_BITS, _SEVEN_BITS = 127, 64  # 2 · 255 · 64 < 2¹⁵
_PROBED = 32, 64, 64  # rows, inner, columns
_TINY = np.float32(1e-12)  # of a column without a weight


def quantised_encoder(
    backbone: Any, pooling: str, threads: int, samples: tuple[Array, Array]
) -> Callable[[Array, Array], Array]:
    """A function of token ids and mask, both (n, length) int32, to unit vectors (n, dim) float32.

    It may be called from several Python threads at once.

    Args:
        backbone: KerasHub's `BertBackbone`.
        pooling: `mean` or `cls`.
        threads: of one call.
        samples: token ids and mask whose activations say which channels are large.
    """
    # Looked up here: most of a multilingual model is this table, which stays as it is.
    words = np.asarray(backbone.token_embedding.embeddings)
    positions = position_table(backbone).numpy()

    def inputs(tokens: Array, mask: Array) -> dict[str, Array]:
        return {"embedded": words[tokens] + positions[: tokens.shape[1]], "mask": mask}

    exact = _Graph()
    model = exact.of(backbone, pooling, taps=True)
    activations = _session(model, threads).run(exact.taps, inputs(*samples))
    kept = samples[1] > 0
    active = [np.abs(found[kept]).max(axis=0) for found in activations]
    rounded = _Graph(active, largest_weight())
    session = _session(rounded.of(backbone, pooling), threads)

    def encode(tokens: Array, mask: Array) -> Array:
        (vectors,) = session.run(None, inputs(tokens, mask))
        found: Array = vectors
        return found

    return encode


@cache
def largest_weight() -> int:
    """What a rounded weight may be on this processor: 127, or 64 where two products overflow."""
    rows, inner, columns = _PROBED
    graph = _Graph()
    product = graph.int8_product(
        "x", np.full((inner, columns), _EIGHT_BITS, np.int8), np.ones(columns, np.float32)
    )
    model = graph.model({"x": [rows, inner]}, {product: [rows, columns]})
    (found,) = _session(model, 1).run(None, {"x": np.ones((rows, inner), np.float32)})
    return _EIGHT_BITS if np.allclose(found, inner * _EIGHT_BITS, rtol=1e-3) else _SEVEN_BITS


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class _Graph:
    """Collects nodes and constants; each method gives the name of its output.

    Args:
        active: largest of the activations that enter each smooth product, (channels,) each,
            in the order of the graph; without it every product is exact.
        largest: magnitude of a rounded weight.
    """

    def __init__(self, active: list[Array] | None = None, largest: int = _EIGHT_BITS) -> None:
        self.active, self.largest = active, largest
        self.taps: list[str] = []  # what enters the smooth products
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def of(self, backbone: Any, pooling: str, taps: bool = False) -> onnx.ModelProto:
        x = self.norm("embedded", norm_of(backbone.embeddings_layer_norm))
        for layer in layers_of(backbone):
            qkv = self.node("Split", self.smooth_product(x, layer.qkv), outputs=3, axis=-1)
            # Told that the queries are divided by √(dim/heads) already.
            mixed = self.node(
                "MultiHeadAttention", *(f"{qkv}_{i}" for i in range(3)),
                self.constant(layer.qkv.bias), "mask", domain=_CONTRIBUTED,
                num_heads=layer.heads, scale=1.0,
            )  # fmt: skip
            x = self.sum_norm(x, mixed, layer.attended, layer.after_attention)
            inner = self.smooth_product(x, layer.inner)
            inner = self.node(
                "FastGelu", inner, self.constant(layer.inner.bias), domain=_CONTRIBUTED
            )
            x = self.sum_norm(x, inner, layer.outer, layer.after_feed_forward)
        self.node("LpNormalization", self.pooled(x, pooling), axis=-1, p=2)
        self.nodes[-1].output[0] = "vectors"
        shape = ["n", "length", backbone.hidden_dim]
        inputs = {"embedded": shape, "mask": shape[:2]}
        seen = self.taps if taps else []
        return self.model(inputs, {"vectors": shape[::2]} | dict.fromkeys(seen, shape))

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> onnx.ModelProto:
        """All nodes, with the shapes of what goes in and out: float32, and `mask` int32."""

        def typed(shapes: dict[str, list[Any]]) -> list[onnx.ValueInfoProto]:
            types = {"mask": TensorProto.INT32}
            return [
                helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
                for name, shape in shapes.items()
            ]

        graph = helper.make_graph(
            self.nodes, "graph", typed(inputs), typed(outputs), self.constants
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIBUTED, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(
        self, op: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any
    ) -> str:
        name = f"{op}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return name

    def smooth_product(self, x: str, part: Dense) -> str:
        """As `product`, of activations with channels that are always large."""
        self.taps.append(x)
        if self.active is None:
            return self.product(x, part)
        active = np.maximum(self.active[len(self.taps) - 1], _TINY)
        kernel = np.asarray(part.kernel)
        factor = np.sqrt(active / np.maximum(np.abs(kernel).max(axis=1), _TINY))
        smooth = self.node("Mul", x, self.constant((1 / factor).astype(np.float32)))
        return self.product(smooth, Dense(kernel * factor[:, np.newaxis], part.bias))

    def product(self, x: str, part: Dense) -> str:
        """x @ kernel, in int8, one scale for each token and each output."""
        if self.active is None:
            return self.node("MatMul", x, self.constant(part.kernel))
        kernel = np.asarray(part.kernel)
        scale = np.maximum(np.abs(kernel).max(axis=0), _TINY) / np.float32(self.largest)
        rounded = np.rint(kernel / scale).astype(np.int8)
        largest = self.node("ReduceMax", self.node("Abs", x), axes=[-1], keepdims=1)
        product = self.int8_product(self.node("Div", x, largest), rounded, scale)
        return self.node("Mul", product, largest)

    def int8_product(self, x: str, rounded: Array, scale: Array) -> str:
        """x @ (rounded · scale), with one scale for the whole of x."""
        weights, scales = self.constant(rounded), self.constant(scale.astype(np.float32))
        return self.node("DynamicQuantizeMatMul", x, weights, scales, domain=_CONTRIBUTED)

    def norm(self, x: str, norm: Norm) -> str:
        scale, shift = self.constant(norm.scale), self.constant(norm.shift)
        return self.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=norm.epsilon)

    def sum_norm(self, x: str, inner: str, part: Dense, norm: Norm) -> str:
        """The norm of x + inner @ kernel + bias."""
        parameters = map(self.constant, (norm.scale, norm.shift, part.bias))
        return self.node(
            "SkipLayerNormalization", x, self.product(inner, part), *parameters,
            domain=_CONTRIBUTED, epsilon=norm.epsilon,
        )  # fmt: skip

    def pooled(self, x: str, pooling: str) -> str:
        if pooling == "cls":
            return self.node("Gather", x, self.constant(np.array(0)), axis=1)
        # The sum will do: it is scaled to length 1.
        kept = self.node("Cast", "mask", to=TensorProto.FLOAT)
        kept = self.node("Unsqueeze", kept, self.constant(np.array([2])))
        return self.node(
            "ReduceSum", self.node("Mul", x, kept), self.constant(np.array([1])), keepdims=0
        )
