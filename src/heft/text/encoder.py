"""The BERT encoder: strings in, one vector for each out, in training as in serving."""

import json
from collections.abc import Callable
from typing import Any

import keras
import keras_hub
import tensorflow as tf
from keras_hub.src.utils.transformers import convert_bert
from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

from heft.errors import EncoderError
from heft.text.checkpoint import Checkpoint, find_checkpoint, fingerprint
from heft.text.fused import fused_states
from heft.text.settings import TextSettings
from heft.text.tokenizer import GraphTokenizer

__all__ = ["TextEncoder", "load_encoder"]

# Padded tokens that go through BERT at once inside a graph: enough to keep a processor's cores
# busy, and memory does not grow with the number of texts.
_TOKENS_AT_ONCE = 2048


class TextEncoder:
    """Encodes text; usable eagerly, in `tf.function` and in `keras.export.ExportArchive`.

    Tokenises in the graph, runs BERT (Devlin et al., 2019) and pools the token vectors as the
    checkpoint says, by default their mean under the mask (Reimers and Gurevych, 2019), scaled to
    length 1. Many texts go through in parts of like length, so that few tokens are padding.

    Attributes:
        backbone: the Keras model, for `ExportArchive.track`; frozen.
        tokenizer: strings to token ids.
        dim: width of the vectors.
        fingerprint: of the checkpoint's files; equal means equal vectors.
        pooling: `mean` or `cls`.
    """

    def __init__(
        self,
        backbone: keras.Model,
        tokenizer: GraphTokenizer,
        checkpoint: Checkpoint,
        fingerprint: str,
    ) -> None:
        backbone.trainable = False
        self.backbone = backbone
        self.tokenizer = tokenizer
        self.dim = checkpoint.dim
        self.fingerprint = fingerprint
        self.pooling = checkpoint.pooling
        self._checkpoint = checkpoint
        # Traced once for every shape: lengths differ from batch to batch.
        self.tokenize_batch: Callable[[tf.Tensor], tf.RaggedTensor] = tf.function(
            tokenizer, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )
        self.encode_batch: Callable[..., tf.Tensor] = tf.function(
            self._encode_fused,
            input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
            autograph=False,
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """The vectors of `texts`, a (n,) string tensor, n ≥ 0, as (n, dim) float32."""
        tokens = self.tokenizer(texts)
        order = tf.argsort(tokens.row_lengths(), direction="DESCENDING", stable=True)
        tokens = tf.gather(tokens, order)
        lengths, count = tokens.row_lengths(), tf.size(order)
        # The fused layers read the weights beneath adapters that are still being trained.
        encode = self.encode if _has_adapters(self.backbone) else self.encode_batch
        vectors = tf.TensorArray(
            tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=[None, self.dim]
        )
        # No text leaves a part as well, which eager arrays want.
        vectors = vectors.write(0, tf.zeros([0, self.dim]))

        def next_part(
            start: tf.Tensor, part: tf.Tensor, vectors: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
            longest = tf.cast(lengths[start], tf.int32)
            end = tf.minimum(start + tf.maximum(_TOKENS_AT_ONCE // longest, 1), count)
            rows = tokens[start:end]
            shape = tf.stack([end - start, longest])
            mask = tf.ones_like(rows).to_tensor(shape=shape)
            encoded = encode(rows.to_tensor(shape=shape), mask)
            return end, part + 1, vectors.write(part, encoded)

        _, _, vectors = tf.while_loop(
            lambda start, *_: start < count, next_part, [0, 1, vectors], parallel_iterations=1
        )
        shape = tf.stack([count, self.dim])
        return tf.scatter_nd(order[:, tf.newaxis], vectors.concat(), shape)

    def encode(self, tokens: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The vectors, (n, dim) float32, of padded token ids.

        Args:
            tokens: (n, length) int32.
            mask: (n, length) int32, 1 at tokens and 0 at padding.
        """
        inputs = {"token_ids": tokens, "segment_ids": tf.zeros_like(tokens), "padding_mask": mask}
        return self.pool(self.backbone(inputs, training=False)["sequence_output"], mask)

    def copied(self, dtype: str) -> "TextEncoder":
        """An encoder with the same weights that computes in `dtype`, a Keras policy's name."""
        config = {**self.backbone.get_config(), "dtype": dtype}
        backbone = type(self.backbone).from_config(config)
        backbone.set_weights(self.backbone.get_weights())
        return TextEncoder(backbone, self.tokenizer, self._checkpoint, self.fingerprint)

    def _encode_fused(self, tokens: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """As `encode`, faster on a CPU."""
        return self.pool(fused_states(self.backbone, tokens, mask), mask)

    def pool(self, states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The vectors, (n, dim) float32, of token states (n, length, dim) and their mask."""
        states = tf.cast(states, tf.float32)
        if self.pooling == "cls":
            pooled = states[:, 0, :]
        else:
            weights = tf.cast(mask, tf.float32)[:, :, tf.newaxis]
            pooled = tf.reduce_sum(states * weights, 1) / tf.reduce_sum(weights, 1)
        pooled = tf.ensure_shape(pooled, [None, self.dim])
        return tf.math.l2_normalize(pooled, axis=-1)


def load_encoder(settings: TextSettings) -> TextEncoder:
    """Loads the encoder the settings name; takes some seconds.

    Raises:
        EncoderError: the checkpoint is missing, incomplete or not a BERT, or
            `max_tokens` is above its positions.
    """
    checkpoint = find_checkpoint(settings.encoder)
    tokenizer = GraphTokenizer(checkpoint, settings.max_tokens)
    try:
        backbone = _backbone(checkpoint)
    except Exception as error:  # KerasHub, Keras and safetensors each raise their own
        raise EncoderError(
            f"{checkpoint.folder}: the weights do not load as BERT "
            f"({type(error).__name__}: {error}); check that the safetensors belong to config.json"
        ) from error
    return TextEncoder(backbone, tokenizer, checkpoint, fingerprint(checkpoint.folder))


def _has_adapters(backbone: keras.Model) -> bool:
    return any(getattr(layer, "lora_enabled", False) for layer in backbone._flatten_layers())


class _Loader(SafetensorLoader):
    """Leaves out the pooler, which no vector here goes through: many checkpoints have none."""

    def port_weight(self, keras_variable: Any, hf_weight_key: str, hook_fn: Any = None) -> None:
        if not hf_weight_key.startswith("pooler."):
            super().port_weight(keras_variable, hf_weight_key, hook_fn)


def _backbone(checkpoint: Checkpoint) -> keras.Model:
    config = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))
    segments = int(config.get("type_vocab_size", 2))
    backbone = keras_hub.models.BertBackbone(
        **convert_bert.convert_backbone_config(config), num_segments=segments
    )
    with _Loader(str(checkpoint.folder)) as loader:
        convert_bert.convert_weights(backbone, loader, config)
    # KerasHub has the original BERT's, whatever the checkpoint was trained with.
    epsilon = float(config.get("layer_norm_eps", 1e-12))
    for layer in backbone._flatten_layers():
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = epsilon
    return backbone
