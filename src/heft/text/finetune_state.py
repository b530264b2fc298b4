"""How far a fine-tuning is, on disk, so that one that was killed goes on."""

import json
import logging
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from heft.text.clicked import ShownPairs
from heft.text.finetune_settings import FinetuneSettings

__all__ = ["FinetuneState", "Resumable", "digest_of"]

Array = np.ndarray

_log = logging.getLogger(__name__)


class Resumable(Protocol):
    """What is trained: a step, adapters and an optimiser."""

    step: int

    def adapters(self) -> list[Array]:
        """Copies of the weights."""

    def set_adapters(self, values: list[Array]) -> None:
        """Puts copies back."""

    def optimizer_state(self) -> list[Array]:
        """Copies of the optimiser's."""

    def set_optimizer_state(self, values: list[Array]) -> None:
        """Puts them back."""


class FinetuneState:
    """How far a fine-tuning is, on disk; of other settings or data nothing is taken."""

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._path = folder / f"{digest}.npz" if folder else None

    def restore(self, trainer: Resumable) -> tuple[dict[int, float], tuple[int, list[Array]]]:
        """Puts the trainer where it was; the curve and the best state, empty at the beginning."""
        if self._path is None or not self._path.is_file():
            return {}, (0, [])
        with np.load(self._path, allow_pickle=False) as stored:
            facts = json.loads(str(stored["facts"]))
            parts = {
                kind: [stored[f"{kind}{k}"] for k in range(facts[kind])]
                for kind in ("adapter", "optimizer", "best")
            }
        trainer.set_adapters(parts["adapter"])
        trainer.set_optimizer_state(parts["optimizer"])
        trainer.step = facts["step"]
        _log.info("going on from step %d", trainer.step)
        curve = {int(k): v for k, v in facts["curve"].items()}
        return curve, (facts["best_step"], parts["best"])

    def save(
        self, trainer: Resumable, curve: dict[int, float], best: tuple[int, list[Array]]
    ) -> None:
        """As a whole or not at all."""
        if self._path is None:
            return
        parts = {
            "adapter": trainer.adapters(), "optimizer": trainer.optimizer_state(), "best": best[1],
        }  # fmt: skip
        facts: dict[str, Any] = {kind: len(arrays) for kind, arrays in parts.items()}
        facts |= {"step": trainer.step, "curve": curve, "best_step": best[0]}
        arrays = {f"{kind}{k}": x for kind, own in parts.items() for k, x in enumerate(own)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part.npz")
        np.savez(part, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]
        part.replace(self._path)

    def remove(self) -> None:
        """Takes the folder away."""
        if self._path is not None:
            shutil.rmtree(self._path.parent, ignore_errors=True)


def digest_of(pairs: ShownPairs, parent: str, settings: FinetuneSettings, tokens: int) -> str:
    """Of everything that decides what is trained."""
    found = sha256(f"{parent} {tokens} {settings.model_dump_json()}".encode())
    for texts in (pairs.query_texts, pairs.title_texts):
        found.update(b"\0".join(texts))
    for array in (pairs.query, pairs.title, pairs.positive, pairs.negative):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]
