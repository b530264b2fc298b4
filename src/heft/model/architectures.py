"""What two tasks share. Each function takes the joined features and gives one tensor per task."""

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import layers, ops

from heft.model.bodies import body
from heft.model.settings import ModelSettings

__all__ = ["ARCHITECTURES", "MODEL_TASKS"]

MODEL_TASKS = ("click", "conversion")

Tensor: TypeAlias = keras.KerasTensor
Architecture = Callable[[Tensor, ModelSettings], list[Tensor]]


def esmm(inputs: Tensor, settings: ModelSettings) -> list[Tensor]:
    """A body for each task; they share the inputs and the loss of the product (Ma et al. 2018)."""
    return [body(task, inputs, settings) for task in MODEL_TASKS]


def shared_bottom(inputs: Tensor, settings: ModelSettings) -> list[Tensor]:
    """One body, and a hidden layer of its own for each task (Caruana 1997)."""
    shared = body("shared", inputs, settings)
    return [_head(task, shared, settings) for task in MODEL_TASKS]


def mmoe(inputs: Tensor, settings: ModelSettings) -> list[Tensor]:
    """Experts for all, mixed by a softmax gate of each task (Ma et al. 2018, MMoE)."""
    experts = [body(f"expert_{k}", inputs, settings) for k in range(settings.experts)]
    return [_head(task, _gated(f"{task}_gate", inputs, experts), settings) for task in MODEL_TASKS]


def ple(inputs: Tensor, settings: ModelSettings) -> list[Tensor]:
    """One level of experts, each task's own and shared ones (Tang et al. 2020, PLE)."""
    shared = [body(f"shared_expert_{k}", inputs, settings) for k in range(settings.experts)]
    heads = []
    for task in MODEL_TASKS:
        own = [body(f"{task}_expert_{k}", inputs, settings) for k in range(settings.experts)]
        mixed = _gated(f"{task}_gate", inputs, own + shared)
        heads.append(_head(task, mixed, settings))
    return heads


def _gated(name: str, inputs: Tensor, experts: list[Tensor]) -> Tensor:
    """Σ softmax(gate)ₖ · expertₖ, (batch, width)."""
    gate = layers.Dense(len(experts), activation="softmax", name=name)(inputs)
    stacked = ops.stack(experts, axis=1)
    return ops.sum(stacked * ops.expand_dims(gate, -1), axis=1)


def _head(task: str, inputs: Tensor, settings: ModelSettings) -> Tensor:
    penalty = keras.regularizers.L2(settings.l2)
    return layers.Dense(
        settings.hidden[-1], activation="relu", kernel_regularizer=penalty, name=f"{task}_head"
    )(inputs)


ARCHITECTURES: dict[str, Architecture] = {
    "esmm": esmm,
    "shared_bottom": shared_bottom,
    "mmoe": mmoe,
    "ple": ple,
}
