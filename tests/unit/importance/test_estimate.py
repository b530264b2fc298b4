"""Transformed shards in, the same rows with their weights out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heft import features as f
from heft.errors import DataError
from heft.examples import Feature, read_columns, shard_paths, write_columns
from heft.importance import ImportanceSettings, effective_sample_size
from heft.importance.estimate import SUMMARY_FILE, estimate_importance, proxy_features
from heft.text.table import TextTable
from tests.unit.model.conftest import random_table

QUERIES, TITLES = 20, 30
THETA = np.array([1.0, 0.6, 0.35, 0.2])
ROWS = {"train": 3_000, "tune": 500, "harvest": 4_000}
FEATURES = [
    Feature(f.IMPRESSION_ID, bytes),
    *(Feature(n, int) for n in (f.QUERY_ID, f.TITLE_ID, f.REQUEST_KEY, f.POSITION, f.CLICK)),
    Feature(f.CONVERSION, int),
    *(Feature(name, float) for name in (*f.LEXICAL, "price_z", f.OBSERVATION)),
]
PAIRS = [column(task) for task in f.TASKS for column in (f.positive_weight, f.negative_weight)]
SCORES = [f.score_column(name, task) for task in f.TASKS for name in ("label_quality", "el2n")]
SETTINGS = ImportanceSettings(folds=2, epochs=1, minimum_shuffled_clicks=200, samples=5)
TABLE = random_table(QUERIES, TITLES)


def _split(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    position = rng.integers(1, 5, rows)
    overlap = rng.random(rows).astype(np.float32)
    click = (rng.random(rows) < THETA[position - 1] * (0.1 + 0.7 * overlap)).astype(np.int64)
    columns: dict[str, np.ndarray] = {
        f.IMPRESSION_ID: np.array([b"%d-%d" % (seed, i) for i in range(rows)], object),
        f.QUERY_ID: rng.integers(-1, QUERIES, rows),
        f.TITLE_ID: rng.integers(-1, TITLES, rows),
        f.REQUEST_KEY: np.arange(rows) // 4,
        f.POSITION: position,
        f.CLICK: click,
        f.CONVERSION: click * (rng.random(rows) < 0.4),
        f.OBSERVATION: rng.random(rows).astype(np.float32),
        "price_z": rng.normal(size=rows).astype(np.float32),
    }
    lexical = {name: rng.random(rows).astype(np.float32) for name in f.LEXICAL}
    return columns | lexical | {f.LEXICAL[0]: overlap}


@dataclass
class Weighed:
    """One run over the shards of a fixture."""

    folder: Path
    summary: dict[str, Any]

    def shards(self, split: str) -> list[Path]:
        return sorted((self.folder / split).iterdir())

    def columns(self, split: str, names: list[str]) -> dict[str, np.ndarray]:
        return read_columns(
            [str(p) for p in self.shards(split)], [Feature(n, float) for n in names]
        )


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("transformed")
    for seed, (split, rows) in enumerate(ROWS.items()):
        columns = _split(rows, seed)
        for k, part in enumerate(np.array_split(np.arange(rows), 3)):
            shard = {name: values[part] for name, values in columns.items()}
            write_columns(shard, folder / split / f"transformed-{k}.gz")
    return {split: str(folder / split) for split in ROWS}


def _weigh(splits: dict[str, str], folder: Path, settings: ImportanceSettings) -> Weighed:
    outputs = {split: str(folder / split) for split in ("train", "tune")}
    found = estimate_importance(splits, TABLE, FEATURES, settings, outputs, str(folder / "facts"))
    return Weighed(folder, found)


@pytest.fixture(scope="module")
def weighed(splits: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Weighed:
    return _weigh(splits, tmp_path_factory.mktemp("weighed"), SETTINGS)


@pytest.mark.parametrize("split", ["train", "tune"])
def test_every_row_is_written_again_in_order_with_its_weights(
    splits: dict[str, str], weighed: Weighed, split: str
) -> None:
    before = read_columns(shard_paths(splits[split]), FEATURES)
    after = read_columns([str(p) for p in weighed.shards(split)], FEATURES)
    assert len(after[f.CLICK]) == ROWS[split]
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values, err_msg=name)
    added = [*PAIRS, *SCORES] if split == "train" else PAIRS
    for name, values in weighed.columns(split, added).items():
        assert np.isfinite(values).all(), name


def test_tune_has_no_scores_and_nothing_else_is_written(weighed: Weighed) -> None:
    for values in weighed.columns("tune", SCORES).values():
        assert np.isnan(values).all()
    assert {path.name for path in weighed.folder.iterdir()} == {"train", "tune", "facts"}


def test_the_same_input_gives_the_same_bytes(
    splits: dict[str, str], weighed: Weighed, tmp_path: Path
) -> None:
    again = _weigh(splits, tmp_path, SETTINGS)
    for split in ("train", "tune", "facts"):
        for left, right in zip(weighed.shards(split), again.shards(split), strict=True):
            assert left.name == right.name
            assert left.read_bytes() == right.read_bytes(), left


def test_the_summary_is_what_the_written_weights_say(weighed: Weighed) -> None:
    summary = json.loads((weighed.folder / "facts" / SUMMARY_FILE).read_text())
    assert summary == weighed.summary
    for task in f.TASKS:
        names = [f.positive_weight(task), f.negative_weight(task)]
        pairs = np.stack([*weighed.columns("train", names).values()], axis=1).astype(np.float64)
        assert summary["tasks"][task]["ess"] == pytest.approx(
            effective_sample_size(pairs), rel=1e-4
        )
        assert summary["tasks"][task]["rows"] == ROWS["train"]
        histogram = summary["tasks"][task]["histograms"]
        assert sum(histogram["positive"]) == summary["tasks"][task]["positives"]
    assert summary["examination"]["source"] == "shuffled pages"
    assert summary["examination"]["values"] == pytest.approx(THETA.tolist(), abs=0.08)


def test_the_samples_are_rows_of_the_log_with_their_weights(weighed: Weighed) -> None:
    rows = read_columns([str(p) for p in weighed.shards("train")], FEATURES)
    row_of = {name: k for k, name in enumerate(rows[f.IMPRESSION_ID].tolist())}
    pairs = weighed.columns("train", [*PAIRS, *SCORES])
    samples = weighed.summary["samples"]
    assert len(samples["heaviest"]) == len(samples["lightest"]) == SETTINGS.samples
    for sample in samples["heaviest"] + samples["lightest"]:
        row = row_of[sample["impression_id"].encode()]
        assert sample["query_id"] == rows[f.QUERY_ID][row]
        assert sample["title_id"] == rows[f.TITLE_ID][row]
        assert (sample["position"], sample["click"]) == (rows[f.POSITION][row], rows[f.CLICK][row])
        for name in ("positive_weight", "negative_weight"):
            assert sample[name] == pytest.approx(pairs[f"{f.CTR}_{name}"][row])
        for name, score in sample["scores"].items():
            assert score == pytest.approx(pairs[f.score_column(name, f.CTR)][row])


@pytest.mark.parametrize("debias", ["none", "inverse_propensity"])
def test_each_debias_writes_its_own_pairs(
    splits: dict[str, str], tmp_path: Path, debias: str
) -> None:
    settings = SETTINGS.model_copy(update={"debias": debias, "quality": {}, "value": {}})
    weighed = _weigh(splits, tmp_path, settings)
    rows = read_columns(shard_paths(splits["train"]), FEATURES)
    pairs = weighed.columns("train", PAIRS)
    click, conversion = rows[f.CLICK], rows[f.CONVERSION]
    if debias == "none":
        assert weighed.summary["tasks"][f.CTR]["ess"] == ROWS["train"]
        want = [click, 1 - click, conversion, 1 - conversion]
    else:
        theta = np.array(weighed.summary["examination"]["values"])[rows[f.POSITION] - 1]
        # θ/θ̄ · (c/θ, 1 − c/θ), with variance_power 1.
        mean = theta.mean()
        want = [c for y in (click, conversion) for c in (y / mean, (theta - y) / mean)]
        assert (pairs[f.negative_weight(f.CTR)] < 0).any()
    for name, values in zip(PAIRS, want, strict=True):
        np.testing.assert_allclose(pairs[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_posterior_debias_writes_probabilities(weighed: Weighed) -> None:
    pairs = weighed.columns("train", PAIRS)
    for task in f.TASKS:
        positive, negative = pairs[f.positive_weight(task)], pairs[f.negative_weight(task)]
        np.testing.assert_allclose(positive + negative, 1.0, atol=1e-6)
        assert positive.min() >= 0 and positive.max() <= 1
        assert len(np.unique(positive)) > 100  # more than labels


def test_a_proxy_sees_text_lexical_features_and_z_scores_and_no_outcome() -> None:
    columns = _split(50, seed=9)
    found = proxy_features(columns, TABLE, [feature.name for feature in FEATURES])
    reduction = TABLE.reduction
    width = 1 + len(reduction.title.components) + len(reduction.product.components)
    assert found.shape == (50, width + len(f.LEXICAL) + 1)
    np.testing.assert_allclose(found[:, 0], _cosines(TABLE, columns), atol=1e-6)
    np.testing.assert_array_equal(found[:, width:-1], np.stack([columns[n] for n in f.LEXICAL], 1))
    np.testing.assert_array_equal(found[:, -1], columns["price_z"])


def _cosines(table: TextTable, columns: dict[str, np.ndarray]) -> list[float]:
    return [
        float(table.queries[q] @ table.titles[t]) if q >= 0 and t >= 0 else 0.0
        for q, t in zip(columns[f.QUERY_ID], columns[f.TITLE_ID], strict=True)
    ]


def test_large_splits_are_written_as_several_shards(
    splits: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heft.importance.estimate.SHARD_ROWS", 999)
    settings = SETTINGS.model_copy(update={"debias": "none", "quality": {}, "value": {}})
    weighed = _weigh(splits, tmp_path, settings)
    assert [p.name for p in weighed.shards("train")] == [
        f"weighted-{k:05d}-of-00004.gz" for k in range(4)
    ]
    paths = [str(p) for p in weighed.shards("train")]
    ids = read_columns(paths, [Feature(f.IMPRESSION_ID, bytes)])[f.IMPRESSION_ID]
    assert ids.tolist() == [b"0-%d" % i for i in range(ROWS["train"])]


def test_without_a_harvest_split_pairs_seen_at_several_positions_serve(
    splits: dict[str, str], tmp_path: Path
) -> None:
    few = {split: uri for split, uri in splits.items() if split != "harvest"}
    settings = SETTINGS.model_copy(update={"quality": {}, "value": {}})
    weighed = _weigh(few, tmp_path, settings)
    assert weighed.summary["examination"]["source"] == "query-item pairs"


def test_a_missing_split_is_named(splits: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no examples under {tmp_path}/gone"):
        _weigh(splits | {"train": f"{tmp_path}/gone"}, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
