"""Fine-tuning an encoder on clicks: low-rank adapters, contrastive, resumable."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from heft.errors import TrainingError
from heft.evaluation.grouped import ndcg_at_k
from heft.text.checkpoint import find_checkpoint
from heft.text.clicked import ShownPairs
from heft.text.contrastive import Batches, contrastive_loss
from heft.text.embed import embed
from heft.text.encoder import TextEncoder, load_encoder
from heft.text.finetune_settings import FinetuneSettings
from heft.text.finetune_state import FinetuneState, digest_of
from heft.text.lora import adapter_weights, add_adapters, write_checkpoint
from heft.text.settings import TextSettings

__all__ = ["Finetuned", "Step", "fine_tune"]

Array = np.ndarray

_HELD_OUT_QUERIES = 300
# Titles by length in so many parts, so that little is padding and layers stay in the cache.
_CHUNKS = 4
_PAD_TO = 8  # lengths are rounded up, so that few shapes are computed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """How far fine-tuning has come.

    Attributes:
        done, total: steps.
        loss: in nats, mean of the steps since it was last told.
        pairs_per_second: so far.
        seconds_left: estimated.
    """

    done: int
    total: int
    loss: float
    pairs_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Finetuned:
    """What came of it.

    Attributes:
        folder: the new checkpoint.
        steps: after which the kept state was reached; 0 if none was better than the parent.
        curve: NDCG@10 on the held-out queries by steps, the parent's at 0.
    """

    folder: Path
    steps: int
    curve: dict[int, float]


def fine_tune(
    pairs: ShownPairs,
    text: TextSettings,
    settings: FinetuneSettings,
    folder: Path,
    state: Path | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Finetuned:
    """Trains adapters on what was clicked, and writes the best encoder found as a checkpoint.

    Queries are held out whole. On them titles are ranked by cosine, and NDCG@10 is
    computed with a title's share of clicks as its gain; the state with the highest is kept.

    Args:
        pairs: of the training log.
        text: the parent, `encoder`.
        settings: of training.
        folder: to write; replaced.
        state: where a run that is started again finds how far it was; removed at the end.
        progress: called after each step.

    Raises:
        DataError: no clicked pair to learn from, or none held out.
        EncoderError: the parent cannot be used.
        TrainingError: the loss is no number.
    """
    checkpoint = find_checkpoint(text.encoder)
    learned, held = pairs.split(settings.holdout, settings.seed)
    short = min(settings.max_tokens, text.max_tokens, checkpoint.max_positions)
    encoder = load_encoder(text.model_copy(update={"max_tokens": short}))
    add_adapters(encoder.backbone, settings.rank, settings.targets, settings.seed)
    trainer = _Trainer(encoder, Batches(learned, settings), learned, settings)
    saved = FinetuneState(state, digest_of(pairs, encoder.fingerprint, settings, short))
    curve, best = saved.restore(trainer)
    judge = _Judge(held, encoder, text)
    if not curve:
        curve, best = {0: judge()}, (0, trainer.adapters())
        saved.save(trainer, curve, best)
    clock, first, losses = time.monotonic(), trainer.step, list[float]()
    while trainer.step < settings.steps:
        losses.append(trainer.learn())
        if progress is not None:
            seconds = time.monotonic() - clock
            pace = seconds / (trainer.step - first)
            progress(
                Step(
                    trainer.step, settings.steps, float(np.mean(losses[-20:])),
                    settings.batch_size / pace, pace * (settings.steps - trainer.step),
                )
            )  # fmt: skip
        if trainer.step % settings.evaluate_every == 0 or trainer.step == settings.steps:
            curve[trainer.step] = judge()
            _log.info("step %d: NDCG@10 held out %.4f", trainer.step, curve[trainer.step])
            if curve[trainer.step] > max(v for k, v in curve.items() if k < trainer.step):
                best = trainer.step, trainer.adapters()
            saved.save(trainer, curve, best)
    trainer.set_adapters(best[1])
    facts = {
        "steps": best[0],
        "settings": settings.model_dump(mode="json"),
        "ndcg_at_10_held_out": {str(k): v for k, v in curve.items()},
    }
    write_checkpoint(encoder.backbone, settings.targets, checkpoint.folder, folder, facts)
    saved.remove()
    return Finetuned(folder, best[0], curve)


class _Trainer:
    """Adapters, their optimiser, and the step they are at."""

    def __init__(
        self, encoder: TextEncoder, batches: Batches, pairs: ShownPairs, settings: FinetuneSettings
    ) -> None:
        self._encoder, self._batches, self._settings = encoder, batches, settings
        self._queries = _Tokens(pairs.query_texts, encoder)
        self._titles = _Tokens(pairs.title_texts, encoder)
        self._weights = adapter_weights(encoder.backbone, settings.targets)
        self._optimizer = keras.optimizers.Adam(settings.learning_rate, clipnorm=1.0)
        self._optimizer.build(self._weights)
        self.step = 0
        ids, flags = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.bool)
        self._update: Callable[..., tf.Tensor] = tf.function(
            self._descend,
            input_signature=[
                ids,
                ids,
                [(ids, ids)] * _CHUNKS,
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([None], tf.float32),
                flags,
                flags,
            ],
            autograph=False,
        )

    def learn(self) -> float:
        """One step; its loss."""
        batch = self._batches.batch(self.step)
        self._optimizer.learning_rate = self._rate()
        queries = self._queries.padded(batch.query)
        titles = self._titles.chunked(np.concatenate([batch.title, batch.page.ravel()]))
        share = batch.log_share if self._settings.correct_popularity else 0 * batch.log_share
        loss = self._update(*queries, *titles, share, batch.negative, batch.page_there)
        if not np.isfinite(loss := float(loss)):
            raise TrainingError(
                f"the loss of step {self.step} is {loss}: lower text.finetune.learning_rate, which "
                f"is {self._settings.learning_rate}"
            )
        self.step += 1
        return loss

    def _rate(self) -> float:
        """Linear warm-up over a tenth of the steps, then a cosine to 0."""
        total = self._settings.steps
        warm = max(total // 10, 1)
        if self.step < warm:
            return self._settings.learning_rate * (self.step + 1) / warm
        done = (self.step - warm) / max(total - warm, 1)
        return self._settings.learning_rate * 0.5 * (1 + float(np.cos(np.pi * done)))

    def _descend(
        self, query_ids: tf.Tensor, query_mask: tf.Tensor,
        chunks: list[tuple[tf.Tensor, tf.Tensor]], place: tf.Tensor,
        log_share: tf.Tensor, negative: tf.Tensor, there: tf.Tensor,
    ) -> tf.Tensor:  # fmt: skip
        variables = [weight.value for weight in self._weights]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            query = self._encoder.encode(query_ids, query_mask)
            parts = [self._encoder.encode(*chunk) for chunk in chunks]
            titles = tf.gather(tf.concat(parts, axis=0), place)
            count = tf.shape(query)[0]
            shape = [count, self._settings.page_negatives, self._encoder.dim]
            page = tf.reshape(titles[count:], shape)
            loss = contrastive_loss(
                query, titles[:count], page, log_share, negative, there, self._settings.temperature
            )
        self._optimizer.apply(tape.gradient(loss, variables), self._weights)
        return loss

    def adapters(self) -> list[Array]:
        """Copies of the adapters' weights."""
        return [_copy(weight) for weight in self._weights]

    def set_adapters(self, values: list[Array]) -> None:
        """Puts copies back."""
        for weight, value in zip(self._weights, values, strict=True):
            weight.assign(value)

    def optimizer_state(self) -> list[Array]:
        """Of Adam."""
        return [_copy(x) for x in self._optimizer.variables]

    def set_optimizer_state(self, values: list[Array]) -> None:
        """Puts it back."""
        for variable, value in zip(self._optimizer.variables, values, strict=True):
            variable.assign(value)


def _copy(variable: keras.Variable) -> Array:
    return np.array(keras.ops.convert_to_numpy(variable))


class _Tokens:
    """Token ids of the texts of a vocabulary, each tokenised when it is first seen."""

    def __init__(self, texts: list[bytes], encoder: TextEncoder) -> None:
        self._texts, self._tokenise = texts, encoder.tokenize_batch
        self._known: dict[int, Array] = {}

    def chunked(self, rows: Array) -> tuple[list[tuple[Array, Array]], Array]:
        """The same in `_CHUNKS` parts by length, and where in them each row is, (rows,)."""
        self._learn(rows)
        lengths = np.array([len(self._known[int(row)]) for row in rows])
        order = np.argsort(lengths, kind="stable")
        place = np.argsort(order).astype(np.int32)
        return [self.padded(rows[part]) for part in np.array_split(order, _CHUNKS)], place

    def padded(self, rows: Array) -> tuple[Array, Array]:
        """Ids and mask of `rows`, both (rows, longest) int32."""
        self._learn(rows)
        texts = [self._known[int(row)] for row in rows]
        longest = -(-max(map(len, texts), default=1) // _PAD_TO) * _PAD_TO
        tokens, mask = np.zeros((2, len(rows), longest), np.int32)
        for place, ids in enumerate(texts):
            tokens[place, : len(ids)], mask[place, : len(ids)] = ids, 1
        return tokens, mask

    def _learn(self, rows: Array) -> None:
        new = [int(row) for row in np.unique(rows) if int(row) not in self._known]
        if new:
            ragged = self._tokenise(tf.constant([self._texts[row] for row in new]))
            ids = np.split(ragged.flat_values.numpy(), ragged.row_splits.numpy()[1:-1])
            self._known |= dict(zip(new, ids, strict=True))


class _Judge:
    """NDCG@10 of the cosine on pages of queries that were held out."""

    def __init__(self, held: ShownPairs, encoder: TextEncoder, text: TextSettings) -> None:
        clicked = np.unique(held.query[held.positive > 0])
        # By hash, since ids follow how often a query was asked.
        some = np.random.default_rng(0).permutation(clicked)[:_HELD_OUT_QUERIES]
        self._pairs = held.of(np.isin(held.query, some))
        self._encoder, self._text = encoder, text

    def __call__(self) -> float:
        pairs = self._pairs
        vectors = []
        for texts, ids in ((pairs.query_texts, pairs.query), (pairs.title_texts, pairs.title)):
            own = [texts[k] for k in ids]
            vectors.append(
                embed(own, self._encoder, self._text.batch_size, self._text.batch_tokens)
            )
        score = (vectors[0] * vectors[1]).sum(axis=1)
        # Of two titles clicked each time, the one shown more often is the surer.
        share = pairs.positive / (pairs.positive + pairs.negative + 1)
        # The metric's gain is 2^grade − 1.
        return ndcg_at_k(np.log2(1 + share), score, pairs.query, 10).mean
