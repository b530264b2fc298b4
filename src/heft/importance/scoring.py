"""The passes over blocks that end in weight pairs, and what lies on disk between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heft import features as f
from heft.importance.fitting import FittedTask
from heft.importance.gather import FEATURES, Block, load_block
from heft.importance.ranks import Ranks
from heft.importance.rows import importance_data
from heft.importance.sample import Sample
from heft.importance.settings import ImportanceSettings
from heft.importance.totals import (
    Factors,
    Mixture,
    Moments,
    Spread,
    choose_clip,
    clips,
    normaliser,
)
from heft.passes import Passes

__all__ = [
    "Scored", "TaskColumns", "WeightFacts", "WeightedBlock", "score_blocks", "weigh_blocks",
]  # fmt: skip

Array = np.ndarray


@dataclass(frozen=True)
class _Score:
    fitted: dict[str, FittedTask]
    settings: ImportanceSettings
    latest: int
    sample: Sample


@dataclass(frozen=True)
class TaskColumns:
    """Which columns the scores of one task have.

    Attributes:
        scores: names of estimators.
        corrections: of row weights, `fraud_weight`, say.
        constant: the labels are all the same, so that there is nothing to weigh.
    """

    scores: list[str]
    corrections: list[str]
    constant: bool


@dataclass(frozen=True)
class Scored:
    """What estimators said of every row, in files beside the blocks.

    Attributes:
        blocks: the rows.
        tasks: what there is, by task.
        settings: of the combination.
    """

    blocks: Sequence[Block]
    tasks: dict[str, TaskColumns]
    settings: ImportanceSettings

    def sampled(self, task: str, name: str) -> Array:
        """One column over the rows of the sample, in order; memory O(rows in the sample)."""
        parts = []
        for block in self.blocks:
            with np.load(_scores(block)) as stored:
                parts.append(stored[f"{task}/{name}"][stored["sampled"]])
        return np.concatenate(parts)

    def sampled_pairs(self, task: str) -> Array:
        """(rows in the sample, 2) float32, once they are combined."""
        parts = []
        for block in self.blocks:
            with np.load(_scores(block)) as stored, np.load(_pairs(block)) as pairs:
                parts.append(pairs[task][stored["sampled"]])
        return np.concatenate(parts)


@dataclass(frozen=True)
class WeightFacts:
    """The weights of one task over all rows.

    Attributes:
        ess: effective sample size.
        clip: in force.
        row_mean: mean of the product of row weights, before it was divided by it.
        lowest, highest: of |w⁺| + |w⁻|.
    """

    ess: float
    clip: float
    row_mean: float
    lowest: float
    highest: float


@dataclass(frozen=True)
class WeightedBlock:
    """Columns that are written beside the rows of a block, and those of the sample."""

    columns: dict[str, Array]
    sampled: Array

    @classmethod
    def load(cls, block: Block, tasks: dict[str, TaskColumns]) -> "WeightedBlock":
        """Pairs, scores and row weights of all tasks."""
        columns = {}
        with np.load(_pairs(block)) as pairs, np.load(_scores(block)) as scores:
            for task, names in tasks.items():
                columns[f.positive_weight(task)] = pairs[task][:, 0]
                columns[f.negative_weight(task)] = pairs[task][:, 1]
                for name in names.scores + names.corrections:
                    columns[f.score_column(name, task)] = scores[f"{task}/{name}"]
            return cls(columns, scores["sampled"])


def score_blocks(
    passes: Passes,
    blocks: Sequence[Block],
    fitted: dict[str, FittedTask],
    sample: Sample,
    settings: ImportanceSettings,
    latest: int,
) -> Scored:
    """Asks all estimators about all rows, block by block."""
    work = _Score(fitted, settings, latest, sample)
    passes.run("score", _score, blocks, [b.rows for b in blocks], work)
    tasks = {
        task: TaskColumns(list(x.scorers), [_weight(n) for n in x.corrections], x.constant)
        for task, x in fitted.items()
    }
    return Scored(blocks, tasks, settings)


def weigh_blocks(passes: Passes, scored: Scored) -> dict[str, WeightFacts]:
    """Combines what was said into pairs, exactly as `combine` would over all rows at once.

    Where the sample is not all rows, ranks are those among its rows.
    """
    blocks, settings = scored.blocks, scored.settings
    sizes = [block.rows for block in blocks]
    factors = {task: _factors(scored, task) for task in scored.tasks}
    found = passes.run("rank", _multiply, blocks, sizes, factors)
    total = {task: _add([part[task] for part in found]) for task in factors}
    mixtures = {task: normaliser(total[task], factors[task].mode) for task in factors}
    tried = clips(settings.clip)
    found = passes.run("spread", _spread, blocks, sizes, (mixtures, tried))
    for task in factors:
        spread = _add([part[task] for part in found])
        minimum = 0.0 if scored.tasks[task].constant else settings.minimum_ess
        mixtures[task] = choose_clip(mixtures[task], total[task], spread, tried, minimum)
    found = passes.run("combine", _combine, blocks, sizes, mixtures)
    return {task: _facts(mixtures[task], [part[task] for part in found]) for task in factors}


def _score(work: _Score, block: Block) -> None:
    columns = load_block(block.path)
    features = columns.pop(FEATURES)
    data = {
        task: importance_data(columns, features, task, work.settings, work.latest)
        for task in work.fitted
    }
    stored = {"sampled": work.sample.holds(columns[f.REQUEST_KEY])}
    for task, fitted in work.fitted.items():
        judged = fitted.judge(data[task], data[f.CTR])
        row = np.ones(len(features))
        for weight in judged.rows.values():
            row = row * weight
        stored |= {f"{task}/#label": data[task].label, f"{task}/#row": row}
        stored |= {f"{task}/#pairs": judged.pairs}
        stored |= {f"{task}/{name}": score for name, score in judged.scores.items()}
        stored |= {f"{task}/{_weight(name)}": weight for name, weight in judged.rows.items()}
    _save(_scores(block), stored)


def _factors(scored: Scored, task: str) -> Factors:
    """Rank tables over the sample; memory O(its rows · estimators with an exponent)."""
    known = scored.tasks[task]
    exponents = {k: v for k, v in scored.settings.exponents.items() if k in known.scores}
    label = scored.sampled(task, "#label")
    ranks = {
        name: Ranks.of(scored.sampled(task, name), label)
        for name, power in exponents.items()
        if power != 0
    }
    factors = Factors(exponents, ranks, "pair" if known.constant else scored.settings.mode)
    if factors.mode != "formula_4_2":
        return factors
    product = factors.product({name: scored.sampled(task, name) for name in ranks}, label)
    product_ranks = Ranks.of(product, label, scored.sampled(task, "#row"))
    return Factors(exponents, ranks, factors.mode, product_ranks)


def _multiply(factors: dict[str, Factors], block: Block) -> dict[str, Moments]:
    products, moments = {}, {}
    with np.load(_scores(block)) as stored:
        for task, own in factors.items():
            label = stored[f"{task}/#label"]
            scores = {name: stored[f"{task}/{name}"] for name in own.ranks}
            products[task] = own.product(scores, label)
            moments[task] = Moments.of(products[task], stored[f"{task}/#row"], label)
    _save(_products(block), products)
    return moments


def _spread(work: tuple[dict[str, Mixture], list[float]], block: Block) -> dict[str, Spread]:
    mixtures, tried = work
    with np.load(_scores(block)) as stored, np.load(_products(block)) as products:
        return {
            task: Spread.of(mixture, tried, *_columns(stored, products, task))
            for task, mixture in mixtures.items()
        }


def _combine(mixtures: dict[str, Mixture], block: Block) -> dict[str, Array]:
    """Writes the pairs; returns Σ mass, Σ mass², least and most mass by task."""
    pairs, sums = {}, {}
    with np.load(_scores(block)) as stored, np.load(_products(block)) as products:
        for task, mixture in mixtures.items():
            found = mixture.pairs(*_columns(stored, products, task))
            mass = np.abs(found).sum(axis=1)
            ends = (mass.min(), mass.max()) if len(mass) else (np.inf, -np.inf)
            sums[task] = np.array([mass.sum(), (mass**2).sum(), *ends])
            pairs[task] = found.astype(np.float32)
    _save(_pairs(block), pairs)
    return sums


def _columns(stored: Any, products: Any, task: str) -> tuple[Array, Array, Array, Array]:
    pairs, row, label = (stored[f"{task}/#{name}"] for name in ("pairs", "row", "label"))
    return pairs, products[task], row, label


def _facts(mixture: Mixture, sums: Sequence[Array]) -> WeightFacts:
    stacked = np.array(sums)
    mass, squares = stacked[:, 0].sum(), stacked[:, 1].sum()
    ess = float(mass**2 / squares) if squares > 0 else 0.0
    lowest, highest = float(stacked[:, 2].min()), float(stacked[:, 3].max())
    return WeightFacts(ess, mixture.clip, mixture.row_mean, lowest, highest)


def _add(parts: Sequence[Any]) -> Any:
    """Their sum, in order, so that it is the same however the work was spread."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _weight(correction: str) -> str:
    """Its column; an estimator may give a score as well."""
    return f"{correction}_weight"


def _save(path: Path, columns: dict[str, Array]) -> None:
    part = path.with_suffix(".part.npz")
    np.savez(part, **columns)  # type: ignore[arg-type]
    part.replace(path)  # whole or not at all: Beam may try a block twice


def _scores(block: Block) -> Path:
    return Path(block.path).with_suffix(".scores.npz")


def _products(block: Block) -> Path:
    return Path(block.path).with_suffix(".products.npz")


def _pairs(block: Block) -> Path:
    return Path(block.path).with_suffix(".pairs.npz")
