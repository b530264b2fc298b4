"""How much each token moves what is computed from a text's vector."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from heft.errors import EncoderError
from heft.text.encoder import TextEncoder

__all__ = ["TokenGradients", "TokenScores"]

Array = np.ndarray

_TEXTS_AT_ONCE = 16


class TokenScores(NamedTuple):
    """Of the tokens of one text, special ones included, (length,) each.

    Attributes:
        ids: of the vocabulary.
        gradient: gradient × input.
        integrated: integrated gradients.
    """

    ids: Array
    gradient: Array
    integrated: Array


class TokenGradients:
    """What a number y, with gradient g with respect to a text's vector v, owes to each token.

    With eᵢ a token's word embedding and b that of `[PAD]`:
    gradient × input (Shrikumar et al. 2016, *Not Just a Black Box*), eᵢ · ∂(g · v)/∂eᵢ, is how
    fast y would change if the embedding were scaled up. Integrated gradients (Sundararajan, Taly &
    Yan 2017, *Axiomatic Attribution for Deep Networks*), (eᵢ − b) · ∫₀¹ ∂(g · v)/∂eᵢ dα along the
    straight way from b, add up to g · (v − v of padding between `[CLS]` and `[SEP]`).

    Layer normalisation takes out most of what scaling an embedding does, so that the first
    says little of a word's worth; see docs/explain.md.

    Args:
        encoder: from `load_encoder`.
        padding: id of `[PAD]`.
        steps: of the integral, by the midpoint rule.

    Raises:
        EncoderError: the encoder's layers cannot be run one by one.

    Cost: `steps` + 1 times BERT, there and back, for each text.
    """

    def __init__(self, encoder: TextEncoder, padding: int = 0, steps: int = 8) -> None:
        if not hasattr(encoder.backbone, "transformer_layers"):
            raise EncoderError(
                f"encoder={type(encoder.backbone).__name__} has no layers to go through: expected "
                "KerasHub's BertBackbone, as load_encoder gives"
            )
        self.encoder, self._padding = encoder, padding
        self._shares = (np.arange(steps) + 0.5) / steps
        ids, real = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.float32)
        self._slope = tf.function(
            self._slope_at,
            input_signature=[ids, ids, real, tf.TensorSpec([], tf.float32)],
            autograph=False,
        )

    def of(self, texts: Sequence[str | bytes], gradients: Array) -> list[TokenScores]:
        """The scores of every text.

        Args:
            texts: n texts.
            gradients: (n, dim) of y with respect to each text's vector.
        """
        found = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            part = slice(start, start + _TEXTS_AT_ONCE)
            ragged = self.encoder.tokenize_batch(tf.constant(list(texts[part]), tf.string))
            lengths = ragged.row_lengths().numpy()
            tokens = ragged.to_tensor().numpy()
            mask = (np.arange(tokens.shape[1]) < lengths[:, None]).astype(np.int32)
            gradient, integrated = self._attribute(tokens, mask, gradients[part])
            found += [
                TokenScores(tokens[row, :n], gradient[row, :n], integrated[row, :n])
                for row, n in enumerate(lengths)
            ]
        return found

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

    def baseline(self, tokens: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Embeddings (n, length, width) of padding; of `[CLS]` and `[SEP]` as they are."""
        places = tf.range(tf.shape(tokens)[1])[None, :]
        inside = (places > 0) & (places < tf.reduce_sum(mask, axis=1, keepdims=True) - 1)
        replaced = tf.where(inside, tf.constant(self._padding, tokens.dtype), tokens)
        return self.encoder.backbone.token_embedding(replaced)

    def _attribute(self, tokens: Array, mask: Array, gradients: Array) -> tuple[Array, Array]:
        """Gradient × input and integrated gradients, (n, length) each."""
        given = tokens, mask, gradients.astype(np.float32)
        embedded = self.encoder.backbone.token_embedding(tf.constant(tokens)).numpy()
        moved = embedded - self.baseline(tf.constant(tokens), tf.constant(mask)).numpy()
        # One after the other: the graph holds BERT once, and memory is that of one pass.
        slopes = [self._slope(*given, tf.constant(s, tf.float32)).numpy() for s in self._shares]
        here = self._slope(*given, tf.constant(1.0)).numpy()
        return (embedded * here).sum(axis=-1), (moved * np.mean(slopes, axis=0)).sum(axis=-1)

    def _slope_at(
        self, tokens: tf.Tensor, mask: tf.Tensor, gradients: tf.Tensor, share: tf.Tensor
    ) -> tf.Tensor:
        """∂(g · v)/∂e, (n, length, width), a share of the way from the baseline to the text."""
        embedded, base = self.encoder.backbone.token_embedding(tokens), self.baseline(tokens, mask)
        at = base + share * (embedded - base)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(at)
            moved = tf.reduce_sum(self.vectors(at, mask) * gradients)
        return tape.gradient(moved, at)
