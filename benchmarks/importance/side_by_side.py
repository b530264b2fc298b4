"""Many networks trained side by side: the same batches, the same start, other weight pairs.

What differs between two of them is the weights alone. The network is that of
the product's click tower (64-32, L2, dropout), on standardised features.
"""

from itertools import pairwise

import numpy as np
import tensorflow as tf

Array = np.ndarray

HIDDEN = (64, 32)
BATCH, EPOCHS, LEARNING_RATE = 1024, 3, 2e-3
L2, DROPOUT, CLIP_NORM = 1e-2, 0.1, 5.0


def train(
    features: Array, row_of: Array, pairs: Array, seed: int, epochs: int = EPOCHS
) -> "SideBySide":
    """Trains one network for each column of weight pairs.

    Args:
        features: (pairs, d) float32.
        row_of: (n,) which row of `features` each sample has.
        pairs: (n, arms, 2) weight pairs.
        seed: of initialisation, order and dropout.
    """
    positive, negative = pairs[..., 0].sum(axis=0), pairs[..., 1].sum(axis=0)
    rate = np.clip(positive / np.maximum(positive + negative, 1e-9), 1e-3, 1 - 1e-3)
    model = SideBySide(features.shape[1], np.log(rate / (1 - rate)), seed)
    rng = np.random.default_rng(seed)
    table = tf.constant(features)
    batch = int(np.clip(len(row_of) // 100, 32, BATCH))
    for _ in range(epochs):
        order = rng.permutation(len(row_of))
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            model.step(tf.gather(table, row_of[rows]), pairs[rows].astype(np.float32))
    return model


class SideBySide:
    """Stacked two-layer networks with Adam, each with its own clipping."""

    def __init__(self, width: int, bias: Array, seed: int) -> None:
        arms = len(bias)
        rng = np.random.default_rng(seed)
        sizes = (width, *HIDDEN, 1)
        self.weights = []
        for inner, outer in pairwise(sizes):
            limit = np.sqrt(6 / (inner + outer))
            start = rng.uniform(-limit, limit, (inner, outer)).astype(np.float32)
            self.weights.append(tf.Variable(np.repeat(start[None], arms, axis=0)))
            self.weights.append(tf.Variable(tf.zeros((arms, 1, outer))))
        self.weights[-1].assign(bias.astype(np.float32)[:, None, None])
        self.moments = [(tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w)))
                        for w in self.weights]  # fmt: skip
        self.steps = tf.Variable(0.0)
        self.noise = tf.random.Generator.from_seed(seed)

    def logits(self, x: tf.Tensor, keep: float = 1.0) -> tf.Tensor:
        """(batch, width) → (arms, batch)."""
        hidden = x[None]
        for layer in range(0, len(self.weights) - 2, 2):
            hidden = tf.nn.relu(hidden @ self.weights[layer] + self.weights[layer + 1])
            if keep < 1:
                mask = self.noise.uniform(tf.shape(hidden)[1:]) < keep
                hidden = hidden * tf.cast(mask, tf.float32)[None] / keep
        return (hidden @ self.weights[-2] + self.weights[-1])[..., 0]

    @tf.function(jit_compile=False, reduce_retracing=True)
    def step(self, x: tf.Tensor, pairs: tf.Tensor) -> None:
        """One step of Adam on a batch."""
        with tf.GradientTape() as tape:
            z = self.logits(x, 1 - DROPOUT)
            w = tf.transpose(pairs, (2, 1, 0))
            loss = tf.reduce_mean(w[0] * tf.nn.softplus(-z) + w[1] * tf.nn.softplus(z), axis=1)
            # L2 is on the hidden kernels, as in the product.
            decay = [tf.reduce_sum(k**2, axis=(1, 2)) for k in self.weights[:-2:2]]
            total = tf.reduce_sum(loss + L2 * tf.add_n(decay))
        gradients = tape.gradient(total, self.weights)
        norms = tf.sqrt(tf.add_n([tf.reduce_sum(g**2, axis=(1, 2)) for g in gradients]))
        scale = tf.minimum(1.0, CLIP_NORM / tf.maximum(norms, 1e-9))[:, None, None]
        self.steps.assign_add(1.0)
        rate = LEARNING_RATE * tf.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for weight, gradient, (first, second) in zip(
            self.weights, gradients, self.moments, strict=True
        ):
            gradient = gradient * scale
            first.assign(0.9 * first + 0.1 * gradient)
            second.assign(0.999 * second + 0.001 * gradient**2)
            weight.assign_sub(rate * first / (tf.sqrt(second) + 1e-7))

    def predict(self, features: Array) -> Array:
        """(rows, width) → (rows, arms) probabilities."""
        blocks = np.array_split(features, max(1, len(features) // 16_384))
        return np.concatenate([tf.sigmoid(self.logits(b)).numpy().T for b in blocks])
