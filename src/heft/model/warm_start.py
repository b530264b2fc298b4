"""What a model hands on to the next: its weights by layer, and the vocabularies behind them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np

from heft.errors import ConfigError, TrainingError

__all__ = [
    "EXTRAS_DIR",
    "WARM_START_DIR",
    "Lineage",
    "WarmStart",
    "between",
    "check_base",
    "load_base",
    "save_base",
    "warm_start",
]

# Where TensorFlow Serving expects whatever goes with a SavedModel and is not the graph.
EXTRAS_DIR = "assets.extra"
WARM_START_DIR = f"{EXTRAS_DIR}/warm_start"
_FACTS, _WEIGHTS = "lineage.json", "weights.npz"
_RETIRED = "retired/"
_FORMAT = 1


@dataclass(frozen=True)
class Lineage:
    """What weights mean: two models with the same may hand them on.

    Attributes:
        encoder: fingerprint of the text encoder.
        dense: the dense inputs, in order.
        vocabularies: values of each categorical column, in the order of its embedding's rows;
            the last row is that of unknown values.
        vectors: width of each vector input.
        history: whether the user's last clicks are looked at.
    """

    encoder: str
    dense: tuple[str, ...]
    vocabularies: Mapping[str, tuple[str, ...]]
    vectors: Mapping[str, int] = field(default_factory=dict)
    history: bool = False


@dataclass(frozen=True)
class WarmStart:
    """A base model's weights.

    Attributes:
        lineage: what they mean.
        weights: arrays of each layer, by its name.
        place: where they were read.
        retired: values that an earlier vocabulary had and this one lacks, and their rows,
            by categorical column: a brand that is away for a day comes back as it was.
    """

    lineage: Lineage
    weights: dict[str, list[np.ndarray]]
    place: str
    retired: Mapping[str, tuple[tuple[str, ...], np.ndarray]] = field(default_factory=dict)

    def rows(self, column: str) -> tuple[tuple[str, ...], np.ndarray]:
        """All values of a column with a row, that of unknown values last among the rows."""
        values, rows = self.lineage.vocabularies[column], self.weights[f"{column}_embedding"][0]
        gone, kept = self.retired.get(column, ((), rows[:0]))
        return (*values, *gone), np.concatenate([rows[:-1], kept, rows[-1:]])


def save_base(
    core: keras.Model, lineage: Lineage, folder: str | Path, before: WarmStart | None = None
) -> None:
    """Writes what `load_base` reads; `folder` is made.

    Values of `before`, which training began with, are kept if `lineage` has them no longer.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    arrays = {
        f"{layer.name}/{number}": array
        for layer in core.layers
        for number, array in enumerate(layer.get_weights())
    }
    retired = {} if before is None else _retired(before, lineage)
    arrays |= {f"{_RETIRED}{name}": rows for name, (_, rows) in retired.items()}
    np.savez(Path(folder) / _WEIGHTS, **arrays)
    facts = {"format": _FORMAT, **asdict(lineage)}
    if retired:
        facts["retired"] = {name: values for name, (values, _) in retired.items()}
    for optional in ("vectors", "history"):
        if not facts[optional]:
            del facts[optional]
    (Path(folder) / _FACTS).write_text(json.dumps(facts, ensure_ascii=True))


def load_base(folder: str | Path) -> WarmStart:
    """The base model in `folder`.

    Raises:
        TrainingError: there is none, or none of this format.
    """
    try:
        lineage, gone = _read_lineage(Path(folder))
        with np.load(Path(folder) / _WEIGHTS) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except OSError as error:
        raise TrainingError(
            f"{folder} holds no weights to begin with: expected {_FACTS} and {_WEIGHTS} of an "
            "earlier run; leave out model.warm_start and model.base_model to begin anew"
        ) from error
    retired = {name: (values, arrays.pop(f"{_RETIRED}{name}")) for name, values in gone.items()}
    weights: dict[str, list[np.ndarray]] = {}
    for name in sorted(arrays, key=lambda n: (n.rsplit("/", 1)[0], int(n.rsplit("/", 1)[1]))):
        weights.setdefault(name.rsplit("/", 1)[0], []).append(arrays[name])
    return WarmStart(lineage, weights, str(folder), retired)


def check_base(model: str | Path, names: Sequence[str], lineage: Lineage) -> None:
    """Finds before anything is trained what `warm_start` would object to, shapes of layers aside.

    Args:
        model: a SavedModel, to begin with.
        names: of the models in it that are wanted, `weighted` and `control`.
        lineage: of the model to be; what is in its vocabularies does not matter.

    Raises:
        ConfigError: the model has no weights of a name, or they mean something else.
    """
    for name in names:
        try:
            before, _ = _read_lineage(Path(model) / WARM_START_DIR / name)
        except (OSError, TrainingError) as error:
            hint = "; with model.control: false it need not have one" if name == "control" else ""
            raise ConfigError(
                f"model.base_model={str(model)!r} holds no weights of a {name} model: expected a "
                f"model that Heft exported{hint}"
            ) from error
        if differences := _other_meaning(lineage, before):
            raise ConfigError(
                f"model.base_model={str(model)!r} cannot be gone on with: "
                f"{'; '.join(differences)}; use its text.encoder and the columns of its transform, "
                "or another base model"
            )


def warm_start(core: keras.Model, lineage: Lineage, base: WarmStart) -> dict[str, int]:
    """Gives `core` the weights of `base`; new vocabulary values keep the row they were made with.

    Args:
        core: a new network.
        lineage: of `core`.
        base: of an earlier model.

    Returns:
        New values by categorical column.

    Raises:
        TrainingError: another encoder, other inputs or another architecture.
    """
    _check(core, lineage, base)
    new = {}
    for layer in core.layers:
        old, fresh = base.weights.get(layer.name, []), layer.get_weights()
        name = layer.name.removesuffix("_embedding")
        if name in lineage.vocabularies and old:
            values, kept = base.rows(name)
            place = _places(values, lineage.vocabularies[name])
            new[name] = int((place < 0).sum())
            layer.set_weights([np.where(place[:, None] >= 0, kept[place], fresh[0])])
        elif old:
            layer.set_weights(old)
    return new


def between(
    begun: Sequence[np.ndarray], learned: Sequence[np.ndarray], share: float
) -> list[np.ndarray]:
    """(1 − share) · begun + share · learned, of each array.

    A network that went on from another lies in the same valley, where the way between the two is
    as good as its ends and less noisy (Wortsman et al. 2022, *Robust fine-tuning of zero-shot
    models*). Over spans it is an average of all days, of which a day k days ago counts share ·
    (1 − share)ᵏ.
    """
    return [
        ((1 - share) * old + share * new).astype(new.dtype)
        for old, new in zip(begun, learned, strict=True)
    ]


def _places(old: tuple[str, ...], now: tuple[str, ...]) -> np.ndarray:
    """(rows,) the old row of each row, −1 for a new value; unknown values stay the last row."""
    at = {value: row for row, value in enumerate(old)}
    return np.array([at.get(value, -1) for value in now] + [len(old)])


def _retired(before: WarmStart, now: Lineage) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    found = {}
    for name, current in now.vocabularies.items():
        if name not in before.lineage.vocabularies or f"{name}_embedding" not in before.weights:
            continue
        values, rows = before.rows(name)
        places = [k for k, value in enumerate(values) if value not in set(current)]
        if places:
            found[name] = tuple(values[k] for k in places), rows[places]
    return found


def _read_lineage(folder: Path) -> tuple[Lineage, dict[str, tuple[str, ...]]]:
    """The lineage, and the values that have retired, by column."""
    facts = json.loads((folder / _FACTS).read_text())
    if facts.get("format") != _FORMAT:
        raise TrainingError(
            f"{folder} has another format: leave out model.warm_start and model.base_model once"
        )
    vocabularies = {name: tuple(values) for name, values in facts["vocabularies"].items()}
    lineage = Lineage(
        facts["encoder"],
        tuple(facts["dense"]),
        vocabularies,
        facts.get("vectors", {}),
        facts.get("history", False),
    )
    return lineage, {name: tuple(values) for name, values in facts.get("retired", {}).items()}


def _other_meaning(now: Lineage, before: Lineage) -> list[str]:
    return [
        f"{what} {left} then and {right} now"
        for what, left, right in (
            ("encoder", before.encoder[:12], now.encoder[:12]),
            ("dense inputs", list(before.dense), list(now.dense)),
            ("categorical columns", sorted(before.vocabularies), sorted(now.vocabularies)),
            ("vectors", dict(before.vectors), dict(now.vectors)),
            ("history", before.history, now.history),
        )
        if left != right
    ]


def _check(core: keras.Model, lineage: Lineage, base: WarmStart) -> None:
    differences = _other_meaning(lineage, base.lineage)
    embeddings = {f"{name}_embedding" for name in lineage.vocabularies}
    shapes = {
        layer.name: [w.shape[layer.name in embeddings :] for w in layer.get_weights()]
        for layer in core.layers
        if layer.get_weights()
    }
    old = {
        name: [w.shape[name in embeddings :] for w in arrays]
        for name, arrays in base.weights.items()
    }
    for name in sorted(shapes.keys() | old.keys()):
        if shapes.get(name) != old.get(name):
            differences.append(f"layer {name} {old.get(name)} then and {shapes.get(name)} now")
    if differences:
        raise TrainingError(
            f"the base model in {base.place} cannot be gone on with: {'; '.join(differences[:4])}; "
            "keep the settings, or leave out model.warm_start and model.base_model to begin anew"
        )
