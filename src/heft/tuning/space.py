"""From the settings that are searched to KerasTuner's hyperparameters, and back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras_tuner

from heft.errors import ConfigError
from heft.model.plan import largest_batch
from heft.model.settings import ModelSettings
from heft.tuning.settings import SpaceEntry

__all__ = ["SHAPES", "Space"]

# What a setting needs to mean anything.
_NEEDS = {
    "experts": ("architecture", ("mmoe", "ple")),
    "cross_layers": ("body", ("dcn_v2",)),
    "curriculum_epochs": ("weights", ("curriculum",)),
    "meta_every": ("weights", ("learned",)),
}
# What a base model decides.
SHAPES = ("architecture", "body", "hidden", "experts", "cross_layers", "categorical_width")
_BATCHES = (128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True)
class Space:
    """The settings that are searched around a config's own.

    Attributes:
        own: the config's settings; its values are among those of every entry.
        entries: by setting, what others need first.
    """

    own: ModelSettings
    entries: Mapping[str, SpaceEntry]

    @classmethod
    def of(cls, own: ModelSettings, entries: Mapping[str, SpaceEntry] | None, rows: int) -> Self:
        """The space of a config, or the default one for `rows` training rows.

        Raises:
            ConfigError: a setting without effect or without a second value, or one that
                a base model has decided.
        """
        fixed = SHAPES if own.base_model is not None else ()
        if entries is None:
            free = {k: entry for k, entry in _default(own, rows).items() if k not in fixed}
            entries = {k: entry for k, entry in free.items() if not _idle(k, own, free)}
        for name in entries:
            if name in fixed:
                raise ConfigError(
                    f"tune.space.{name}: model.base_model fixes the network; take {name} out, or "
                    "leave base_model out"
                )
            if why := _idle(name, own, entries):
                raise ConfigError(f"tune.space.{name} has no effect: {why}")
        first = sorted(entries, key=lambda name: (name in _NEEDS, name))
        found = {name: _with_own(name, entries[name], own) for name in first}
        if all(entry.values is not None and len(entry.values) == 1 for entry in found.values()):
            raise ConfigError(
                f"tune.space has no value beside the config's own for {sorted(found)}: add values"
            )
        return cls(own, found)

    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """What an oracle draws from; the defaults are the config's own values."""
        found = keras_tuner.HyperParameters()
        for name, entry in self.entries.items():
            parent, needed = _NEEDS.get(name, (None, ()))
            condition = {}
            if parent in self.entries:
                # A condition on a value that its parent never has is no fault.
                condition = {"parent_name": parent, "parent_values": [_text(n) for n in needed]}
            default = getattr(self.own, name)
            if entry.values is not None:
                values = [_text(value) for value in entry.values]
                found.Choice(name, values, default=_text(default), **condition)
                continue
            kind = found.Int if _whole(name) else found.Float
            sampling = "log" if entry.log else "linear"
            kind(name, entry.low, entry.high, sampling=sampling, default=default, **condition)
        return found

    def changes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings by name, of an oracle's values; numbers are rounded to three digits."""
        found = {}
        for name, value in values.items():
            entry = self.entries[name]
            if entry.values is not None:
                chosen = {_text(x): x for x in entry.values}[value]
                found[name] = list(chosen) if isinstance(chosen, tuple) else chosen
            elif value == getattr(self.own, name) or _whole(name):
                found[name] = value
            else:
                low, high = float(entry.low or 0), float(entry.high or 0)
                found[name] = min(max(float(f"{value:.3g}"), low), high)
        return found

    def settings(self, changes: Mapping[str, Any]) -> ModelSettings:
        """The config's settings with those of a trial.

        Raises:
            ValidationError: values that do not go together.
        """
        return ModelSettings.model_validate(self.own.model_dump() | dict(changes))

    def facts(self) -> dict[str, Any]:
        """All that a search depends on, as JSON has it."""
        entries = {name: entry.model_dump(mode="json") for name, entry in self.entries.items()}
        return {"own": self.own.model_dump(mode="json"), "entries": entries}


def _default(own: ModelSettings, rows: int) -> dict[str, SpaceEntry]:
    """Of the batch sizes that come to the same for `rows`, the config's own or the largest."""
    most = largest_batch(rows)
    sizes = {min(size, most): size for size in (*_BATCHES, own.batch_size)}
    return {
        "architecture": SpaceEntry(values=("esmm", "shared_bottom", "mmoe", "ple")),
        "body": SpaceEntry(values=("mlp", "dcn_v2")),
        "hidden": SpaceEntry(values=((32,), (64, 32), (128, 64), (256, 128))),
        "experts": SpaceEntry(low=2, high=6),
        "cross_layers": SpaceEntry(low=1, high=3),
        "dropout": SpaceEntry(low=0.0, high=0.5),
        "l2": SpaceEntry(low=1e-4, high=0.1, log=True),
        "learning_rate": SpaceEntry(low=3e-4, high=2e-2, log=True),
        "batch_size": SpaceEntry(values=tuple(sizes[size] for size in sorted(sizes))),
        "weights": SpaceEntry(values=("loss", "sampling", "both", "curriculum")),
    }


def _idle(name: str, own: ModelSettings, entries: Mapping[str, SpaceEntry]) -> str:
    """Why a setting would change nothing; empty if it may."""
    if name not in _NEEDS:
        return ""
    parent, needed = _NEEDS[name]
    others = entries[parent].values if parent in entries else None
    if {getattr(own, parent), *(others or ())} & {*needed}:
        return ""
    return f"it is for {parent}: {' or '.join(needed)}; add that to the space, or take {name} out"


def _with_own(name: str, entry: SpaceEntry, own: ModelSettings) -> SpaceEntry:
    """The entry with the config's own value in it, and values of the setting's type."""
    value = getattr(own, name)
    if entry.values is not None:
        typed = [getattr(ModelSettings.model_validate({name: x}), name) for x in entry.values]
        values = {_text(x): x for x in [*typed, value]}
        return SpaceEntry(values=tuple(values.values()))
    if not isinstance(value, int | float):
        raise ConfigError(f"tune.space.{name}: expected `values`; {value!r} is in no range")
    if entry.log and not value > 0:
        raise ConfigError(
            f"tune.space.{name}: the config's own {name}={value} has no logarithm: "
            "set log: false, or another value under model"
        )
    low, high = (value if end is None else end for end in (entry.low, entry.high))
    return SpaceEntry(low=min(low, value), high=max(high, value), log=entry.log)


def _whole(name: str) -> bool:
    return ModelSettings.model_fields[name].annotation is int


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
