"""A student learns what its teacher says, and is smaller."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from heft.errors import ConfigError
from heft.model import targets as t
from heft.model.distillation import SoftLabels, student_settings
from heft.model.settings import ModelSettings
from heft.model.training import Trained, TrainingRows, Watch, distilled
from heft.text.table import TextTable
from tests.unit.model.conftest import SIZES, ClickLog, click_log, core_inputs, fit, packed

SETTINGS = ModelSettings(
    hidden=(32,), epochs=4, patience=4, batch_size=128, learning_rate=1e-2, dropout=0.0,
    l2=1e-3, student={"hidden": [4], "share": 1.0},
)  # fmt: skip


class _Says:
    """A teacher whose logits are known."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = tf.constant(logits, tf.float32)

    def __call__(self, inputs: object, training: bool) -> tf.Tensor:
        assert not training
        return self.logits


def test_labels_are_mixed_with_the_rates_of_the_teacher() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(50, 3)), rng.normal(size=(50, t.WIDTH))
    found = SoftLabels(_Says(logits), 0.25, 0.5).pairs({}, tf.constant(targets, tf.float32))
    click = 1 / (1 + np.exp(-(logits[:, 0] - np.log(0.5))))
    rates = np.stack([click, click / (1 + np.exp(-logits[:, 1]))], axis=1)
    for task in (0, 1):
        pair = targets[:, 2 * task : 2 * task + 2]
        soft = np.stack([rates[:, task], 1 - rates[:, task]], axis=1)
        want = 0.75 * pair + 0.25 * pair.sum(axis=1, keepdims=True) * soft
        np.testing.assert_allclose(found[:, 2 * task : 2 * task + 2], want, atol=1e-5)


def _gap(one: Trained, other: Trained, table: TextTable) -> float:
    inputs = core_inputs(table, click_log(2_000, 9))
    rates = [1 / (1 + np.exp(-x.core(inputs, training=False).numpy()[:, :2])) for x in (one, other)]
    return float(np.abs(rates[0] - rates[1]).mean())


@pytest.fixture(scope="module")
def log(write_log) -> ClickLog:
    return write_log(3_000, seed=1, shards=3)


def test_a_student_says_what_its_teacher_says_sooner_than_the_same_network_alone(
    log: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    teacher = fit(log.shards[:2], log.shards[2:], table, tmp_path / "teacher", SETTINGS)
    small = SETTINGS.model_copy(update={"hidden": (4,)})
    alone = fit(log.shards[:2], log.shards[2:], table, tmp_path / "alone", small)
    rows = TrainingRows(packed(log.shards[:2], tmp_path), packed(log.shards[2:], tmp_path, "tune"))
    student, again = (
        distilled(teacher, rows, table, SIZES, SETTINGS, Watch(tmp_path / x), weighted=True)
        for x in "ab"
    )
    assert _gap(student, teacher, table) < 0.8 * _gap(alone, teacher, table)
    assert student.core.count_params() == alone.core.count_params() < teacher.core.count_params()
    assert student.history == again.history
    # The teacher is no part of what is saved.
    assert len(student.model.weights) == len(alone.model.weights)


def test_a_student_is_asked_for_and_taught_on_one_device(
    log: ClickLog, table: TextTable, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"student is not set: expected its widths"):
        plain = SETTINGS.model_copy(update={"student": None})
        distilled(None, None, table, SIZES, plain, Watch(tmp_path), weighted=True)


def test_a_student_is_told_what_its_teacher_had_to_learn() -> None:
    teacher = ModelSettings(weights="learned", cvr_loss="escm2_dr", student={"hidden": [8]})
    own = student_settings(teacher, teacher.student)
    assert (own.weights, own.cvr_loss, own.hidden) == ("loss", "esmm", (8,))
    sampled = ModelSettings(weights="sampling", student={"hidden": [8]})
    assert student_settings(sampled, sampled.student).weights == "sampling"
