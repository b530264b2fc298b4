"""The training loop: one model, or the weighted one and its control."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from heft.errors import ConfigError, TrainingError
from heft.importance.meta_weight_net import MetaWeightNet
from heft.model import targets as t
from heft.model.checkpoints import Checkpoints
from heft.model.distillation import DistilledModel, SoftLabels, student_settings
from heft.model.learned import LearnedWeightsModel
from heft.model.ledger import Spending, freeze_scales
from heft.model.losses import PairLoss
from heft.model.multi_worker import MultiWorkerModel
from heft.model.network import InputSizes, build_core, build_training_model
from heft.model.packing import WEIGHT_COLUMNS
from heft.model.plan import Plan, TrainingRows
from heft.model.precision import computing_in
from heft.model.private import PrivateModel
from heft.model.progress import Progress
from heft.model.settings import ModelSettings
from heft.model.strategy import training_strategy
from heft.model.warm_start import between
from heft.text.table import TextTable

__all__ = ["Trained", "TrainingRows", "Watch", "distilled", "train"]

_NATURAL = ((1.0, 0.0),)


@dataclass(frozen=True)
class Trained:
    """A trained network and how it got there.

    Attributes:
        core: inputs as of `build_core`, with the weights of the best epoch.
        model: the core behind the embedding table, inputs as of `build_training_model`.
        history: `loss` and `val_loss` by epoch.
        weights: the network of learned weights as it was at the end; None but
            with `weights: learned`.
        privacy: what `privacy.json` says of it; None without `privacy`.
    """

    core: keras.Model
    model: keras.Model
    history: dict[str, list[float]]
    weights: MetaWeightNet | None = None
    privacy: dict[str, Any] | None = None


@dataclass(frozen=True)
class Watch:
    """Who looks on, and where what they see is kept.

    Attributes:
        log_dir: TensorBoard's folder.
        resume_dir: keeps the state after each epoch; a training that finds one there goes on
            from it. None keeps it under `log_dir` and begins anew.
        callbacks: further ones.
        name: of the model, for the log.
    """

    log_dir: str | Path
    resume_dir: str | Path | None = None
    callbacks: Sequence[keras.callbacks.Callback] = field(default_factory=tuple)
    name: str = "model"


def train(
    rows: TrainingRows,
    table: TextTable,
    sizes: InputSizes,
    settings: ModelSettings,
    watch: Watch,
    *,
    weighted: bool,
    clicks: Sequence[Sequence[float]] = _NATURAL,
    strategy: tf.distribute.Strategy | None = None,
    prepare: Callable[[keras.Model], object] | None = None,
    soft: SoftLabels | None = None,
) -> Trained:
    """Fits one model; the same seed and settings give the same weights.

    Args:
        rows: packed splits, with weight pairs.
        table: embeddings of the texts that the rows' ids point to.
        sizes: see `InputSizes`.
        settings: network and loop.
        watch: logs, and the state to go on from.
        weighted: on the weight pairs, or as control on (y, 1 − y).
        clicks: slope and offset of the click rate by position, for ESCM².
        strategy: made before, as `multi_worker` has to be; that of the settings otherwise.
        prepare: is called with the new core, to give it the weights to begin with; a share of them,
            1 − `settings.warm_share`, stays.
        soft: a part of the labels; those of the rows alone by default.

    Raises:
        TrainingError: the loss became NaN or infinite.
        ConfigError: settings that do not go together.
    """
    mode = settings.weights if weighted else "none"
    plan = Plan.of(rows, sizes, settings, mode, strategy or training_strategy(settings.strategy))
    plan.check(soft is not None)
    ledger = plan.ledger()
    keras.utils.set_random_seed(settings.seed)
    with plan.strategy.scope():
        with computing_in(settings.precision):
            core = build_core(table, sizes, settings)
        if prepare is not None:
            prepare(core)
        begun = core.get_weights()
        model = build_training_model(table, core, settings)
        if settings.privacy is not None:
            freeze_scales(core, model, rows.tune, sizes, plan.positions, fit=prepare is None)
            loss = PairLoss.of(settings, clicks)
            model = PrivateModel.over(model, loss, settings.privacy, plan.batch_size, plan.secret)
        elif plan.learned:
            model = LearnedWeightsModel.over(model, settings)
        elif soft is not None:
            model = DistilledModel.over(model, soft)
        elif isinstance(plan.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            model = MultiWorkerModel(model.input, model.output, name=model.name)
        _compile(model, settings, clicks)
    folder = watch.resume_dir or Path(watch.log_dir) / "checkpoints"
    checkpoints = Checkpoints(folder, settings.patience, begin_anew=watch.resume_dir is None)
    checkpoints.restore(model)
    begin = checkpoints.epochs_done
    if plan.learned:
        model.teacher.listen(plan.clean_batches(begin))
    batches = plan.batches(begin)
    progress = Progress(watch.name, rows.train.rows, plan.steps, settings.epochs)
    board = keras.callbacks.TensorBoard(str(watch.log_dir), write_graph=False)
    if not checkpoints.finished and begin < settings.epochs:
        model.fit(
            batches, validation_data=plan.tune_batches(), verbose=0, shuffle=False,
            initial_epoch=begin, epochs=settings.epochs, steps_per_epoch=plan.steps,
            callbacks=[
                *([Spending(ledger)] if ledger else []), progress, board, checkpoints,
                *watch.callbacks,
            ],
        )  # fmt: skip
    if progress.broken_at is not None:
        epoch, step = progress.broken_at
        batch = next(iter(batches.skip((epoch - begin) * plan.steps + step).take(1)))
        where = f"step {step + 1} of epoch {epoch + 1}, where {_largest(batch, sizes)}"
        raise TrainingError(_not_finite(where, checkpoints, settings))
    if not np.isfinite(checkpoints.history["val_loss"][-1]):
        where = f"tune after epoch {checkpoints.epochs_done}"
        raise TrainingError(_not_finite(where, checkpoints, settings))
    checkpoints.restore_best(model)
    if prepare is not None:
        core.set_weights(between(begun, core.get_weights(), settings.warm_share))
    net = model.teacher.net if plan.learned else None
    spent = ledger.facts(checkpoints.epochs_done) if ledger else None
    return Trained(core, model, checkpoints.history, net, spent)


def distilled(
    teacher: Trained,
    rows: TrainingRows,
    table: TextTable,
    sizes: InputSizes,
    settings: ModelSettings,
    watch: Watch,
    *,
    weighted: bool,
) -> Trained:
    """A student of `teacher`, trained by the same loop; arguments as of `train`.

    Its rows, seed and weight pairs are those of the teacher, its bodies and labels are
    those of `settings.student`.

    Raises:
        ConfigError: there is no `settings.student`, or there are several devices.
    """
    if settings.student is None:
        raise ConfigError("student is not set: expected its widths, as in student: {hidden: [16]}")
    own = student_settings(settings, settings.student)
    soft = SoftLabels(teacher.model, settings.student.share, own.negative_rate)
    return train(rows, table, sizes, own, watch, weighted=weighted, soft=soft)


def _compile(
    model: keras.Model, settings: ModelSettings, clicks: Sequence[Sequence[float]]
) -> None:
    optimizer = keras.optimizers.Adam(settings.learning_rate, clipnorm=settings.clip_norm)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, loss=PairLoss.of(settings, clicks), jit_compile=settings.jit)


def _not_finite(where: str, checkpoints: Checkpoints, settings: ModelSettings) -> str:
    kept = checkpoints.best_epoch
    saved = f"epoch {kept} is kept in {checkpoints.folder}" if kept else "no epoch was whole"
    return (
        f"the loss is not a finite number in {where} ({saved}): lower "
        f"learning_rate={settings.learning_rate} or clip_norm={settings.clip_norm}, or raise "
        "importance.minimum_propensity"
    )


def _largest(batch: tuple[dict[str, tf.Tensor], tf.Tensor], sizes: InputSizes) -> str:
    """The dense input or weight that is farthest from 0 in a batch, `price_z=3e+38`."""
    inputs, targets = batch
    names = (*sizes.dense, *WEIGHT_COLUMNS)
    values = np.concatenate([inputs["dense"].numpy(), targets.numpy()[:, t.PAIRS]], axis=1)
    row, column = np.unravel_index(np.argmax(np.abs(values)), values.shape)
    return f"{names[column]}={values[row, column]:.3g} is the largest value"
