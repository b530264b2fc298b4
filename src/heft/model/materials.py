"""What a run's models are made from: the artifacts of earlier nodes, and their rows packed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow_transform as tft

from heft import features as f
from heft.errors import ConfigError, TrainingError
from heft.importance.estimate import SUMMARY_FILE
from heft.model.network import InputSizes
from heft.model.packing import Layout, pack
from heft.model.plan import TrainingRows
from heft.model.settings import ModelSettings
from heft.model.warm_start import WARM_START_DIR, Lineage, WarmStart, load_base, warm_start
from heft.selection.ranking import FeatureRanking
from heft.selection.selecting import Selection, select
from heft.selection.settings import SelectionSettings
from heft.text.table import TextTable
from heft.transform import TransformSettings

__all__ = [
    "FLAT", "Materials", "TrainingRun", "base_of", "base_weights", "input_sizes", "pack_rows",
]  # fmt: skip

# A control's click head learns the average position.
FLAT = np.array([[1, 0]], np.float32)


@dataclass(frozen=True)
class TrainingRun:
    """Where a run reads and writes.

    Attributes:
        train_files, tune_files: weighted shards, or patterns of them.
        transform_uri, embeddings_uri, importance_uri: artifacts of earlier nodes.
        model_dir: the served SavedModel goes here.
        control_dir: the control's SavedModel; untouched where there is no control.
        log_dir: TensorBoard logs, `history.json`, `calibration.json` and, if there is
            something to say, `compression.json` and `privacy.json`.
        resume_dir: where a run that is started again finds how far it was.
        base_model: SavedModel of the last blessed run, to go on from with `warm_start`.
        ranking_uri: of FeatureRanker, where features are selected.
    """

    train_files: Sequence[str]
    tune_files: Sequence[str]
    transform_uri: str
    embeddings_uri: str
    importance_uri: str
    model_dir: str
    control_dir: str
    log_dir: str
    resume_dir: str | None = None
    base_model: str | None = None
    ranking_uri: str | None = None


@dataclass(frozen=True)
class Materials:
    """What a run's models are made from, rows aside.

    Attributes:
        transform: Transform's output.
        table: of text embeddings.
        sizes: of the inputs; base rates are those of no rows yet.
        clicks: (positions, 2) slope and offset of the click rate.
        lineage: what the weights of a model made from this mean.
        selection: features that were chosen; None where all are seen.
    """

    transform: tft.TFTransformOutput
    table: TextTable
    sizes: InputSizes
    clicks: np.ndarray
    lineage: Lineage
    selection: Selection | None = None

    @classmethod
    def of(
        cls,
        run: TrainingRun,
        settings: TransformSettings,
        history: bool = False,
        selection: SelectionSettings | None = None,
    ) -> "Materials":
        """Reads the artifacts of earlier nodes; with the history where the model looks at it.

        Raises:
            ConfigError: `selection` without a ranking, or with one of other features.
        """
        output = tft.TFTransformOutput(run.transform_uri)
        table = TextTable.load(run.embeddings_uri)
        sizes = input_sizes(output, settings, history)
        chosen = _chosen(run, selection, sizes, table)
        if chosen is not None:
            sizes, table = chosen.sizes(sizes), chosen.table(table)
        importance = json.loads((Path(run.importance_uri) / SUMMARY_FILE).read_text())
        clicks = importance["clicks"]
        lines = np.array([clicks["slope"], clicks["offset"]], np.float32).T
        return cls(output, table, sizes, lines, _lineage(table, output, sizes), chosen)

    def lines(self, settings: ModelSettings) -> np.ndarray:
        """(positions, 2) of the weighted model; an additive bias takes the click model's place."""
        return FLAT if settings.position == "additive" else self.clicks


def input_sizes(
    output: tft.TFTransformOutput, settings: TransformSettings, history: bool = False
) -> InputSizes:
    """What the network is shaped by, from what Transform learned; with or without the history."""
    # One row beyond the vocabulary is the out-of-vocabulary bucket.
    categorical = {
        f.categorical_id(name): output.vocabulary_size_by_name(name) + 1
        for name in settings.categorical
    }
    numeric = [f.numeric_value(name) for name in settings.numeric]
    numeric += [f.vector_present(name) for name in settings.vectors]
    spec = output.transformed_feature_spec()
    vectors = {
        f.vector_value(name): spec[f.vector_value(name)].shape[0] for name in settings.vectors
    }
    clicks = spec[f.HISTORY_IDS].shape[0] if history else 0
    return InputSizes(categorical, tuple(numeric), vectors=vectors, history=clicks)


def pack_rows(run: TrainingRun, sizes: InputSizes, folder: str) -> TrainingRows:
    """The splits of a run as training reads them.

    Raises:
        TrainingError: no rows, or no clicks to learn from.
    """
    layout = Layout.of(tuple(sizes.categorical), sizes.dense, sizes.vectors, sizes.history)
    rows = TrainingRows(
        pack(_expand(run.train_files), layout, folder, f.TRAIN),
        pack(_expand(run.tune_files), layout, folder, f.TUNE),
    )
    if not 0 < rows.train.clicks < rows.train.rows:
        raise TrainingError(
            f"{rows.train.clicks} of {rows.train.rows} training impressions were clicked: expected "
            "both clicked and unclicked ones; check the clicks stream and click_window"
        )
    if not rows.tune.clicks:
        raise TrainingError(
            f"none of {rows.tune.rows} impressions of the split tune was clicked: training is "
            "stopped and calibrated by it; expected clicks, so raise logs.splits.tune"
        )
    return rows


def base_of(run: TrainingRun, settings: ModelSettings, name: str) -> WarmStart | None:
    """The weights of `name` in the base model; None where there is none.

    The run's own last blessed model comes before one that the settings name.
    """
    path = (run.base_model if settings.warm_start else None) or settings.base_model
    return None if path is None else load_base(Path(path) / WARM_START_DIR / name)


def base_weights(
    run: TrainingRun, settings: ModelSettings, name: str, lineage: Lineage
) -> Callable[[keras.Model], object] | None:
    """Hands on the weights that `base_of` finds; None where there are none."""
    base = base_of(run, settings, name)
    return None if base is None else lambda core: warm_start(core, lineage, base)


def _chosen(
    run: TrainingRun, selection: SelectionSettings | None, sizes: InputSizes, table: TextTable
) -> Selection | None:
    if selection is None:
        return None
    if run.ranking_uri is None:
        raise ConfigError(
            "model.selection needs a ranking, received ranking_uri=None: give what FeatureRanker "
            "wrote, or leave selection out"
        )
    return select(FeatureRanking.load(run.ranking_uri), selection, sizes, table.fingerprint)


def _lineage(table: TextTable, output: tft.TFTransformOutput, sizes: InputSizes) -> Lineage:
    vocabularies = {
        name: tuple(
            value.decode("utf-8", "surrogateescape")
            for value in output.vocabulary_by_name(name.removesuffix("_id"))
        )
        for name in sizes.categorical
    }
    return Lineage(table.fingerprint, sizes.dense, vocabularies, sizes.vectors, sizes.history > 0)


def _expand(patterns: Sequence[str]) -> list[str]:
    """Shards by name order; TFX hands over patterns that end in an asterisk."""
    paths = sorted(
        str(p) for pattern in patterns for p in Path(pattern).parent.glob(Path(pattern).name)
    )
    if not paths:
        raise TrainingError(f"no examples match {list(patterns)}")
    return paths
