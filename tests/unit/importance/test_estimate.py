"""Transformed shards in, the same rows with their weights out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from heft import features as f
from heft.errors import DataError
from heft.examples import Feature, read_columns, shard_paths, write_columns
from heft.importance import (
    ImportanceData,
    ImportanceSettings,
    effective_sample_size,
    registry,
)
from heft.importance.estimate import SUMMARY_FILE, estimate_importance
from heft.importance.gather import proxy_features
from heft.importance.weigh import (
    TaskWeights,
    estimate_examination,
    importance_data,
    weigh_task,
)
from heft.passes import MakePipeline, local_pipeline
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
    Feature("image_vector", float, width=3),
    Feature("list_of_ids", int, width=2),
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
        "image_vector": rng.random((rows, 3)).astype(np.float32),
        "list_of_ids": rng.integers(-1, 9, (rows, 2)),
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


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """Estimators of these tests, gone after them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry._REGISTRY, "test_half_price", HalfPrice)
        patch.setitem(registry._REGISTRY, "test_fails", Fails)
        yield


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("transformed")
    for seed, (split, rows) in enumerate(ROWS.items()):
        columns = _split(rows, seed)
        for k, part in enumerate(np.array_split(np.arange(rows), 3)):
            shard = {name: values[part] for name, values in columns.items()}
            write_columns(shard, folder / split / f"transformed-{k}.gz")
    TABLE.save(str(folder / "table"))
    return {split: str(folder / split) for split in (*ROWS, "table")}


def _weigh(
    splits: dict[str, str],
    folder: Path,
    settings: ImportanceSettings,
    make_pipeline: MakePipeline = local_pipeline,
) -> Weighed:
    outputs = {split: str(folder / split) for split in ("train", "tune")}
    inputs = {name: uri for name, uri in splits.items() if name != "table"}
    found = estimate_importance(
        inputs, splits["table"], FEATURES, settings, outputs, str(folder / "facts"), make_pipeline
    )
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


def two_threads() -> beam.Pipeline:
    """Another way to spread the work than the in-memory runner's one worker."""
    options = ["--direct_running_mode=multi_threading", "--direct_num_workers=2"]
    return beam.Pipeline("FnApiRunner", PipelineOptions(options))


def test_the_same_input_gives_the_same_bytes_however_the_work_is_spread(
    splits: dict[str, str], weighed: Weighed, tmp_path: Path
) -> None:
    again = _weigh(splits, tmp_path, SETTINGS, two_threads)
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


def test_the_default_writes_probabilities_times_row_weights(weighed: Weighed) -> None:
    pairs = weighed.columns("train", PAIRS)
    masses = []
    for task in f.TASKS:
        positive, negative = pairs[f.positive_weight(task)], pairs[f.negative_weight(task)]
        assert min(positive.min(), negative.min()) >= 0
        assert len(np.unique(positive)) > 100  # more than labels
        masses.append(positive + negative)
        assert masses[-1].mean() == pytest.approx(1.0, abs=1e-3)
    # Who clicked, and how often the pair was shown, is the same for both tasks.
    np.testing.assert_allclose(*masses, rtol=1e-4)


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


RICH = SETTINGS.model_copy(
    update={
        "debias": {f.CTR: "inverse_propensity", f.CVR: "none"},
        "quality": {"label_quality": 0.7},
        "value": {"el2n": 0.4},
        "clip": 3.0,
        "minimum_ess": 0.75,
        "corrections": {"test_half_price": {}},
    }
)


class HalfPrice:
    """Rows below the mean price count half, by label."""

    def fit(self, data: ImportanceData) -> "HalfPrice":
        self.mean_ = data.features[:, -1].mean()
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        return self.weight(data)

    def weight(self, data: ImportanceData) -> np.ndarray:
        return np.where(data.features[:, -1] < self.mean_, 0.5, 1.0 + data.label)


@pytest.fixture(scope="module")
def rich(splits: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Weighed:
    """Scores, corrections, a clip that has to tighten, and blocks that cut every shard."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heft.importance.gather.BLOCK_ROWS", 400)
        return _weigh(splits, tmp_path_factory.mktemp("rich"), RICH)


def test_a_large_shard_is_written_as_several(rich: Weighed) -> None:
    """One file a block: how large a shard is does not set how much memory it takes."""
    assert [p.name for p in rich.shards("train")] == [
        f"weighted-{k:05d}-of-00009.gz" for k in range(9)
    ]
    paths = [str(p) for p in rich.shards("train")]
    ids = read_columns(paths, [Feature(f.IMPRESSION_ID, bytes)])[f.IMPRESSION_ID]
    assert ids.tolist() == [b"0-%d" % i for i in range(ROWS["train"])]


@pytest.fixture(scope="module")
def oracle(splits: dict[str, str]) -> dict[str, TaskWeights]:
    """The same settings over all rows at once, in memory."""
    train, harvest = (read_columns(shard_paths(splits[s]), FEATURES) for s in ("train", "harvest"))
    inputs = proxy_features(train, TABLE, [feature.name for feature in FEATURES])
    data = {task: importance_data(train, inputs, task, RICH) for task in f.TASKS}
    curve = estimate_examination(data[f.CTR], harvest, RICH)
    return {task: weigh_task(data[task], curve, RICH, task, clicks=data[f.CTR]) for task in f.TASKS}


@pytest.mark.parametrize("task", f.TASKS)
def test_shard_by_shard_is_as_all_rows_at_once(
    rich: Weighed, oracle: dict[str, TaskWeights], task: str
) -> None:
    want = oracle[task]
    names = [f.positive_weight(task), f.negative_weight(task)]
    found = np.stack([*rich.columns("train", names).values()], axis=1)
    np.testing.assert_allclose(found, want.weights.pairs, rtol=1e-3, atol=1e-3)
    for name, score in want.scores.items():
        column = rich.columns("train", [f.score_column(name, task)])
        np.testing.assert_allclose(*column.values(), score, atol=1e-3)
    facts = rich.summary["tasks"][task]
    assert facts["ess"] == pytest.approx(want.weights.ess, rel=1e-3)
    assert facts["clip"] == want.weights.clip
    assert sum(facts["histograms"]["negative"]) == ROWS["train"] - facts["positives"]


def test_the_clip_of_the_oracle_had_to_tighten(oracle: dict[str, TaskWeights]) -> None:
    """So that the test above can fail."""
    assert any(1 < task.weights.clip < RICH.clip for task in oracle.values())


def test_each_task_has_its_own_debias_and_row_weights_their_column(rich: Weighed) -> None:
    ctr, cvr = (
        rich.columns("train", [f.positive_weight(t), f.negative_weight(t)]) for t in f.TASKS
    )
    assert (ctr[f.negative_weight(f.CTR)] < 0).any()
    assert all((values >= 0).all() for values in cvr.values())
    weights = rich.columns("train", [f.score_column("test_half_price_weight", f.CTR)])
    assert set(np.unique(*weights.values())) == {0.5, 1.0, 2.0}
    facts = rich.summary["tasks"][f.CTR]
    assert facts["corrections"]["test_half_price_weight"]["mean"] == pytest.approx(
        next(iter(weights.values())).mean()
    )


def test_estimators_learn_from_whole_requests_and_judge_all_rows(
    splits: dict[str, str], tmp_path: Path
) -> None:
    """Without a harvest split, too: pairs seen at several positions serve."""
    few = {split: uri for split, uri in splits.items() if split != "harvest"}
    settings = RICH.model_copy(update={"fit_rows": 1_000, "corrections": {}, "minimum_ess": 0.0})
    weighed = _weigh(few, tmp_path, settings)
    assert weighed.summary["examination"]["source"] == "query-item pairs"
    fit = weighed.summary["fit"]
    assert 900 < fit["rows"] <= 1_000 and fit["of"] == ROWS["train"]
    assert fit["rows"] % 4 == 0  # requests have four rows
    pairs = weighed.columns("train", PAIRS)
    assert all(len(values) == ROWS["train"] for values in pairs.values())
    for task in f.TASKS:
        mass = pairs[f.positive_weight(task)] + pairs[f.negative_weight(task)]
        label = read_columns(shard_paths(splits["train"]), FEATURES)[f.label_of(task)]
        if task == f.CVR:  # no debias: the mass is the factor, of mean one by label
            for value in (0, 1):
                assert mass[label == value].mean() == pytest.approx(1.0, abs=1e-4)


def test_a_missing_split_is_named(splits: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no examples under {tmp_path}/gone"):
        _weigh(splits | {"train": f"{tmp_path}/gone"}, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".weighing-*"))


class Fails:
    """Judges what it was fitted on, and nothing else."""

    def fit(self, data: ImportanceData) -> "Fails":
        return self

    def score(self, data: ImportanceData) -> np.ndarray:
        return np.where(data.position == 4, np.nan, 1.0)


def test_what_stops_half_way_leaves_nothing_and_what_was_there(
    splits: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "earlier.gz").write_bytes(b"")
    settings = SETTINGS.model_copy(update={"value": {"test_fails": 1.0}, "debias": "none"})
    with pytest.raises(DataError, match="test_fails: .* values are NaN or infinite"):
        _weigh(splits, tmp_path, settings)
    assert [path.name for path in tmp_path.rglob("*")] == ["train", "earlier.gz"]


def test_a_log_of_one_label_or_of_no_rows_is_told_apart(
    splits: dict[str, str], tmp_path: Path
) -> None:
    for name in ("train", "tune"):
        columns = read_columns(shard_paths(splits[name])[:1], FEATURES)
        columns[f.CONVERSION] = 0 * columns[f.CONVERSION]
        write_columns(columns, tmp_path / "in" / name / "transformed-0.gz")
    write_columns({n: v[:0] for n, v in columns.items()}, tmp_path / "none" / "transformed-0.gz")
    own = splits | {name: str(tmp_path / "in" / name) for name in ("train", "tune")}
    settings = SETTINGS.model_copy(update={"debias": "none", "quality": {}, "value": {"el2n": 1.0}})
    weighed = _weigh(own, tmp_path, settings)
    pairs = weighed.columns("train", PAIRS)
    assert not pairs[f.positive_weight(f.CVR)].any()
    assert (pairs[f.negative_weight(f.CVR)] == 1).all()
    assert weighed.summary["tasks"][f.CVR]["scores"] == {}
    with pytest.raises(DataError, match="0 rows in 1 shards of the train split"):
        _weigh(own | {"train": str(tmp_path / "none")}, tmp_path / "out", settings)
