"""How much each token moves what is computed from a text's vector."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from heft.errors import EncoderError
from heft.text.encoder import TextEncoder

__all__ = ["TokenGradients"]

Array = np.ndarray


class TokenGradients:
    """Gradient × input (Shrikumar et al. 2016, *Not Just a Black Box*) of an encoder's tokens.

    Of a number y with gradient g with respect to a text's vector v, token i gets
    eᵢ · ∂(g · v)/∂eᵢ, where eᵢ is its word embedding: how fast y would change if the
    embedding were scaled up. Positive tokens speak for y, negative ones against it.

    Args:
        encoder: from `load_encoder`.

    Raises:
        EncoderError: the encoder's layers cannot be run one by one.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        if not hasattr(encoder.backbone, "transformer_layers"):
            raise EncoderError(
                f"encoder={type(encoder.backbone).__name__} has no layers to go through: expected "
                "KerasHub's BertBackbone, as load_encoder gives"
            )
        self.encoder = encoder
        spec = [tf.TensorSpec([None, None], tf.int32)] * 2
        self._read = tf.function(
            self._attribute,
            input_signature=[*spec, tf.TensorSpec([None, None], tf.float32)],
            autograph=False,
        )

    def of(self, texts: Sequence[str | bytes], gradients: Array) -> list[tuple[Array, Array]]:
        """Token ids and their scores, (length,) each, of every text, special tokens included.

        Args:
            texts: n texts.
            gradients: (n, dim) of y with respect to each text's vector.
        """
        ragged = self.encoder.tokenize_batch(tf.constant(list(texts), tf.string))
        lengths = ragged.row_lengths().numpy()
        tokens = ragged.to_tensor().numpy()
        mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int32)
        scores = self._read(tokens, mask, gradients.astype(np.float32)).numpy()
        return [(tokens[row, :n], scores[row, :n]) for row, n in enumerate(lengths)]

    def vectors(self, embedded: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """The vectors, (n, dim), of word embeddings (n, length, width)."""
        bert = self.encoder.backbone
        parts = (
            embedded, bert.position_embedding(embedded),
            bert.segment_embedding(tf.zeros_like(mask)),
        )  # fmt: skip
        states = bert.embeddings_layer_norm(bert.embeddings_add(parts))
        for layer in bert.transformer_layers:
            states = layer(states, padding_mask=mask, training=False)
        return self.encoder.pool(states, mask)

    def _attribute(self, tokens: tf.Tensor, mask: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        embedded = self.encoder.backbone.token_embedding(tokens)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(embedded)
            moved = tf.reduce_sum(self.vectors(embedded, mask) * gradients)
        return tf.reduce_sum(embedded * tape.gradient(moved, embedded), axis=-1)
