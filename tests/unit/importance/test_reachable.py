"""Whatever is registered can be named in a config, and the weighing step runs with it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.examples import Feature, read_columns, shard_paths, write_columns
from heft.importance import ImportanceSettings
from heft.importance.estimate import estimate_importance
from heft.importance.gather import proxy_features
from heft.importance.registry import create, names
from heft.text.links import PairLinks, Prediction, pair_keys
from tests.unit.model.conftest import random_table

QUERIES, TITLES, ROWS = 8, 12, 480
TABLE = random_table(QUERIES, TITLES)
FEATURES = [
    Feature(f.IMPRESSION_ID, bytes),
    *(Feature(n, int) for n in (
        f.QUERY_ID, f.TITLE_ID, f.REQUEST_KEY, f.POSITION, f.CLICK, f.CONVERSION, f.USER_KEY,
        f.TIMESTAMP, f.RANDOMISED, "device_id",
    )),
    *(Feature(n, float) for n in (*f.LEXICAL, f.OBSERVATION, f.CLICK_DELAY, f.CONVERSION_DELAY)),
]  # fmt: skip
# What a config says of estimators beside their names; some take long on few rows, too.
BESIDE: dict[str, Any] = {"target_days": 2, "protected_column": "device", "sampling_rate": 0.5}
SMALL: dict[str, dict[str, Any]] = {
    "data_oob": {"models": 20},
    "ensemble": {"members": ["label_quality", "-attention"]},
    "learned": {"steps": 50},
    "lime": {"max_rows": 10, "points": 50, "folds": 2, "trees": 3},
    "shap": {"folds": 2, "trees": 3},
}
DAY = 86_400_000


def _split(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    lexical = {name: rng.random(rows).astype(np.float32) for name in f.LEXICAL}
    position = np.tile(np.arange(1, 5), rows // 4)
    attractive = 0.1 + 0.8 * lexical[f.LEXICAL[0]]
    click = (rng.random(rows) < attractive / position**0.5).astype(np.int64)
    conversion = click * (rng.random(rows) < 0.5)
    request = np.arange(rows) // 4
    return lexical | {
        f.IMPRESSION_ID: np.array([b"%d" % k for k in range(rows)], object),
        f.QUERY_ID: (request % (QUERIES + 1)) - 1,
        f.TITLE_ID: rng.integers(0, TITLES, rows),
        f.REQUEST_KEY: request + 1_000 * seed,
        f.POSITION: position,
        f.CLICK: click,
        f.CONVERSION: conversion,
        f.USER_KEY: request // 3,
        f.TIMESTAMP: request * DAY // 20,
        f.RANDOMISED: np.full(rows, int(seed == 2)),
        "device_id": rng.integers(0, 2, rows),
        f.OBSERVATION: rng.uniform(10, 2_000, rows).astype(np.float32),
        f.CLICK_DELAY: np.where(click, rng.exponential(20, rows), -1).astype(np.float32),
        f.CONVERSION_DELAY: np.where(conversion, rng.exponential(5, rows), -1).astype(np.float32),
    }


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("log")
    for seed, split in enumerate((f.TRAIN, f.TUNE, f.HARVEST)):
        write_columns(_split(ROWS, seed), folder / split / "part-0.gz")
    TABLE.save(str(folder / "table"))
    links = PairLinks(
        keys=pair_keys(np.zeros(4, np.int64), np.arange(4)),
        links=np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        query_texts=[b"q0"] * 4,
        title_texts=[b"t0", b"t1", b"t2", b"t3"],
        prediction=Prediction(np.array([-1.0, 1.0]), np.array([0.5, 0.7]), 0.6),
        fingerprint="none",
        max_tokens=64,
        facts={"pairs": 108, "read": 4},
    )
    links.save(str(folder / "links"))
    return {n: str(folder / n) for n in (f.TRAIN, f.TUNE, f.HARVEST, "table", "links")}


def _kind(name: str) -> str:
    """Where in a config it belongs, by its methods."""
    estimator = create(name)
    if hasattr(estimator, "pairs"):
        return "debias"
    return "corrections" if hasattr(estimator, "weight") else "value"


def _settings(*together: str, **more: Any) -> ImportanceSettings:
    """Estimators of one kind where they belong, and no other."""
    given: dict[str, Any] = {"debias": "none", "corrections": {}, "quality": {}, "value": {}}
    kind = _kind(together[0])
    if kind == "debias":
        # Conversions are what comes late; all others are about position.
        clicks = "none" if together == ("delayed_feedback",) else together[0]
        given["debias"] = {f.CTR: clicks, f.CVR: together[0]}
    elif kind == "corrections":
        given |= {"corrections": {name: {} for name in together}} | BESIDE
    else:
        given["value"] = dict.fromkeys(together, 0.5)
        given["estimators"] = {name: SMALL[name] for name in together if name in SMALL}
    small = {"folds": 2, "epochs": 1, "minimum_shuffled_clicks": 100, "samples": 2}
    return ImportanceSettings(**small | given | more)


def _run(
    splits: dict[str, str], out: Path, settings: ImportanceSettings, links: str | None = "links"
) -> dict[str, Any]:
    return estimate_importance(
        {s: splits[s] for s in (f.TRAIN, f.TUNE, f.HARVEST)},
        splits["table"],
        FEATURES,
        settings,
        {s: str(out / s) for s in (f.TRAIN, f.TUNE)},
        str(out / "facts"),
        links_uri=splits[links] if links else None,
    )


NAMES = {kind: [n for n in names() if _kind(n) == kind] for kind in ("corrections", "value")}
Weighed = tuple[dict[str, Any], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def weighed(
    splits: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Weighed]:
    """Summary and columns of the run that has an estimator in it: one run for all of a kind."""

    @cache
    def run(together: tuple[str, ...]) -> Weighed:
        out = tmp_path_factory.mktemp("weighed")
        summary = _run(splits, out, _settings(*together))
        columns = [column(t) for t in f.TASKS for column in (f.positive_weight, f.negative_weight)]
        named = [f"{n}_weight" if _kind(n) == "corrections" else n for n in together]
        if _kind(together[0]) != "debias":
            columns += [f.score_column(name, task) for name in named for task in f.TASKS]
        wanted = [Feature(column, float) for column in columns]
        return summary, read_columns(shard_paths(str(out / f.TRAIN)), wanted)

    return lambda name: run(tuple(NAMES.get(_kind(name), [name])))


@pytest.mark.parametrize("name", names())
def test_a_config_may_name_it(
    splits: dict[str, str], weighed: Callable[[str], Weighed], name: str
) -> None:
    summary, found = weighed(name)
    kind = _kind(name)
    for task in f.TASKS:
        facts = summary["tasks"][task]
        pair = found[f.positive_weight(task)], found[f.negative_weight(task)]
        assert all(len(w) == ROWS and np.isfinite(w).all() for w in pair)
        if name not in {"inverse_propensity", "affine_correction", "delayed_feedback"}:
            assert min(w.min() for w in pair) >= 0, "only an unbiased correction may"
        if kind == "value":
            score = found[f.score_column(name, task)]
            assert np.isfinite(score).all() and np.ptp(score) > 0
            assert name in facts["scores"]
        if kind == "corrections":
            weight = found[f.score_column(f"{name}_weight", task)]
            assert weight.min() >= 0 and weight.max() > 0
            assert f"{name}_weight" in facts["corrections"]
    # Somebody's weights are not those of training without any.
    labels = read_columns(shard_paths(splits[f.TRAIN]), FEATURES)
    plain = {f.positive_weight(task): labels[f.label_of(task)] for task in f.TASKS}
    assert any(np.ptp(found[column] - label) > 1e-3 for column, label in plain.items())


def test_attention_is_what_was_read_and_predicted(splits: dict[str, str], tmp_path: Path) -> None:
    summary = _run(splits, tmp_path, _settings("attention"))
    assert summary["attention"] == {"pairs": 108, "read": 4}
    train = read_columns(shard_paths(splits[f.TRAIN]), FEATURES)
    score = read_columns(
        shard_paths(str(tmp_path / f.TRAIN)), [Feature(f.score_column("attention", f.CTR), float)]
    ).popitem()[1]
    query, title = train[f.QUERY_ID], train[f.TITLE_ID]
    cosine = proxy_features(train, TABLE, [feature.name for feature in FEATURES])[:, 0]
    want = np.where(query < 0, 0.6, 0.6 + 0.1 * cosine)
    read = (query == 0) & (title < 4)
    want[read] = 0.1 + 0.1 * title[read]
    np.testing.assert_allclose(score, want, atol=1e-5)
    assert read.any() and (query < 0).any()


@pytest.mark.parametrize(
    "settings",
    [_settings("attention"), _settings("ensemble")],
    ids=["by itself", "in the ensemble"],
)
def test_attention_without_what_bert_read_is_one_message(
    splits: dict[str, str], tmp_path: Path, settings: ImportanceSettings
) -> None:
    with pytest.raises(ConfigError, match="attention needs pairs that BERT has read"):
        _run(splits, tmp_path, settings, links=None)
    with pytest.raises(DataError, match="no links.json"):
        _run(splits, tmp_path, settings, links="table")


def test_an_audit_of_more_rows_than_it_takes_says_so(
    splits: dict[str, str], tmp_path: Path
) -> None:
    write_columns(_split(1_200, 3), tmp_path / "in" / "part-0.gz")
    more = splits | {f.TRAIN: str(tmp_path / "in")}
    for name in ("exact_shapley", "exact_banzhaf"):
        with pytest.raises(DataError, match="rows=1200: expected at most 1000 for exact values"):
            _run(more, tmp_path / "out", _settings(name))
    with pytest.raises(
        DataError,
        match="not of the fitted sample: expected at most 1000, ",
    ):
        _run(more, tmp_path / "out", _settings("exact_shapley", fit_rows=20))
