"""A ranking of planted features, from shards; and what a model makes of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heft import features as f
from heft.errors import ConfigError, DataError
from heft.examples import Feature, write_columns
from heft.model.interaction import TextInteraction
from heft.model.network import InputSizes, build_core
from heft.model.settings import ModelSettings
from heft.passes import Passes
from heft.selection.map import TitleMap, draw_map
from heft.selection.ranking import EMBEDDING, FeatureRanking, rank_rows
from heft.selection.rows import SampledRows, sample_rows
from heft.selection.selecting import select
from heft.selection.settings import RankingSettings, SelectionSettings
from heft.text.table import TextTable
from tests.unit.model.conftest import random_table

Columns = dict[str, np.ndarray]
SIZES = InputSizes({"brand_id": 5}, ("price_z",), vectors={"image_vector": 3})
TABLE = random_table(20, 50)


def log(rows: int, seed: int = 0) -> Columns:
    """Clicks follow token overlap, the third dimension of the image, the brand, and the first
    dimension of the title; the weights say that overlap is an illusion and price the truth."""
    rng = np.random.default_rng(seed)
    columns: Columns = {n: rng.normal(size=rows).astype(np.float32) for n in SIZES.dense}
    columns |= {
        f.QUERY_ID: rng.integers(-1, 20, rows),
        f.TITLE_ID: rng.integers(-1, 50, rows),
        "image_vector": rng.normal(size=(rows, 3)).astype(np.float32),
        "brand_id": rng.integers(0, 5, rows),
        f.REQUEST_KEY: rng.integers(0, 2**60, rows),
        f.POSITION: rng.integers(1, 11, rows),
        f.TIMESTAMP: rng.integers(0, 2**40, rows),
    }
    title = np.where(columns[f.TITLE_ID] >= 0, TABLE.titles[columns[f.TITLE_ID], 0], 0)
    logit = columns["lexical_token_overlap"] + 0.8 * columns["image_vector"][:, 2]
    logit = logit + 3 * title + 0.9 * (columns["brand_id"] == 2) - 1
    columns[f.CLICK] = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    columns[f.CONVERSION] = columns[f.CLICK] * (rng.random(rows) < 0.3)
    truth = (columns["price_z"] > 0).astype(np.float32)
    for task in f.TASKS:
        columns[f.positive_weight(task)] = truth
        columns[f.negative_weight(task)] = 1 - truth
    return columns


def ranked(rows: int = 4_000, **settings: Any) -> FeatureRanking:
    chosen = RankingSettings(**({"weighted": False} | settings))
    return rank_rows(SampledRows(log(rows), rows), SIZES, TABLE, chosen)


@pytest.fixture(scope="module")
def ranking() -> FeatureRanking:
    return ranked()


def _names(ranking: FeatureRanking, count: int) -> list[str]:
    columns = {*SIZES.dense, *SIZES.categorical, *SIZES.vectors}
    return [x.name for x in ranking.features if x.name in columns][:count]


def test_planted_features_come_first(ranking: FeatureRanking) -> None:
    assert set(_names(ranking, 3)) == {"lexical_token_overlap", "image_vector", "brand_id"}
    dimensions = [x.name for x in ranking.features if x.kind == EMBEDDING]
    assert dimensions[0] == "title_0"
    assert len(dimensions) == 3 * 8
    by_name = {x.name: x for x in ranking.features}
    assert {"cosine", "title_component_0", "product_component_1"} <= set(by_name)
    assert by_name["brand_id"].measures[f.CTR]["rank_correlation"] is None
    assert by_name["lexical_token_overlap"].measures[f.CTR]["correlation"] > 0.3


def test_weighted_rows_rank_by_what_the_weights_say() -> None:
    assert _names(ranked(weighted=True), 1) == ["price_z"]


def test_text_dimensions_rank_as_their_rows_written_out(ranking: FeatureRanking) -> None:
    columns = log(4_000)
    known = (columns[f.QUERY_ID] >= 0) & (columns[f.TITLE_ID] >= 0)
    q, t = columns[f.QUERY_ID][known], columns[f.TITLE_ID][known]
    product = TABLE.queries[q] * TABLE.titles[t]
    click = columns[f.CLICK][known]
    by_name = {x.name: x.measures[f.CTR] for x in ranking.features}
    for name, values in (
        ("product_5", product[:, 5]),
        ("cosine", product.sum(axis=1)),
        ("product_component_1", TABLE.reduction.product.apply(product)[:, 1]),
    ):
        want = np.corrcoef(values, click)[0, 1]
        np.testing.assert_allclose(by_name[name]["correlation"], want, atol=1e-6)


def test_a_ranking_is_read_back_as_it_was_written(ranking: FeatureRanking, tmp_path: Path) -> None:
    ranking.save(str(tmp_path))
    assert FeatureRanking.load(str(tmp_path)) == ranking
    with pytest.raises(DataError, match=r"no ranking.json; run FeatureRanker again"):
        FeatureRanking.load(str(tmp_path / "nowhere"))


def _shards(columns: Columns, folder: Path, parts: list[np.ndarray]) -> list[str]:
    paths = [str(folder / f"part-{k}.gz") for k in range(len(parts))]
    for path, rows in zip(paths, parts, strict=True):
        write_columns({name: values[rows] for name, values in columns.items()}, path)
    return paths


FEATURES = [Feature(f.CLICK, int), Feature(f.TITLE_ID, int), Feature("price_z", float)]


def test_the_same_rows_are_drawn_however_they_lie_in_shards(tmp_path: Path) -> None:
    columns = log(3_000)
    layouts = {
        "one": [np.arange(3_000)],
        "three": np.array_split(np.random.default_rng(1).permutation(3_000), 3),
        "empty": [np.arange(0), np.arange(3_000)],
    }
    drawn = {}
    for name, parts in layouts.items():
        passes = Passes(tmp_path / name)
        passes.folder.mkdir()
        shards = _shards(columns, tmp_path / name / "shards", parts)
        drawn[name] = sample_rows(passes, shards, FEATURES, 500, seed=3)
        assert (drawn[name].rows, drawn[name].of) == (500, 3_000)
    for name in ("three", "empty"):
        for key, values in drawn["one"].columns.items():
            np.testing.assert_array_equal(drawn[name].columns[key], values)
    # The sample stands for the log, and another seed draws another.
    share, whole = drawn["one"].columns[f.CLICK].mean(), columns[f.CLICK].mean()
    assert abs(share - whole) < 4 * np.sqrt(whole * (1 - whole) / 500)
    passes = Passes(tmp_path / "other")
    passes.folder.mkdir()
    shards = [str(p) for p in sorted((tmp_path / "one" / "shards").iterdir())]
    other = sample_rows(passes, shards, FEATURES, 500, seed=4)
    assert not np.array_equal(other.columns["price_z"], drawn["one"].columns["price_z"])


def test_no_rows_are_an_error(tmp_path: Path) -> None:
    shards = _shards(log(1), tmp_path / "shards", [np.arange(0)])
    with pytest.raises(DataError, match="0 rows in 1 shards"):
        sample_rows(Passes(tmp_path), shards, FEATURES, 5, seed=0)


def chosen(ranking: FeatureRanking, **settings: Any) -> Any:
    return select(ranking, SelectionSettings(**settings), SIZES, TABLE.fingerprint)


def test_the_best_are_kept_and_the_network_sees_no_others(ranking: FeatureRanking) -> None:
    selection = chosen(ranking, top=3)
    sizes, table = selection.sizes(SIZES), selection.table(TABLE)
    seen = {*sizes.dense, *sizes.categorical, *sizes.vectors}
    assert seen <= set(selection.kept)
    assert sizes.dense == ("lexical_token_overlap",)
    assert sizes.vectors == {"image_vector": 3}
    components = sum(
        len(getattr(table.reduction, n).components) for n in ("query", "title", "product")
    )
    assert len(selection.kept) == 1 + 3 == 1 + len(seen) + components
    core = build_core(table, sizes, ModelSettings())
    assert core.get_layer("text_interaction").output.shape[1] == 1 + components
    assert {x.name for x in core.inputs} <= {"query_vector", "title_vector", "dense", *seen}


def test_what_is_below_the_minimum_is_dropped_and_the_best_number_never(
    ranking: FeatureRanking,
) -> None:
    measured = {x.name: abs(x.measures[f.CTR]["correlation"]) for x in ranking.features}
    selection = chosen(ranking, by="correlation", minimum=0.1)
    assert all(measured[name] < 0.1 for name in selection.dropped)
    assert all(measured[name] >= 0.1 for name in selection.kept[1:])
    last = chosen(ranking, minimum=9.0)
    assert last.kept == ("cosine", "lexical_token_overlap")


def test_dimensions_of_the_embedding_join_the_components(ranking: FeatureRanking) -> None:
    selection = chosen(ranking, embedding_dimensions=4)
    assert selection.dimensions[0] == ("title", 0)
    assert not selection.dropped
    table = selection.table(TABLE)
    query, title = TABLE.queries[:7], TABLE.titles[:7]
    whole = TextInteraction.from_reduction(TABLE.reduction)([query, title])
    joined = TextInteraction.from_reduction(table.reduction)([query, title])
    assert joined.shape[1] == whole.shape[1] + 4
    # A component more is an affine map of the vectors; here it is one of their entries.
    columns = np.asarray(joined).T
    wanted = TABLE.titles[:7, 0] - TABLE.reduction.title.mean[0]
    assert any(np.allclose(column, wanted, atol=1e-6) for column in columns)


def test_another_encoder_or_other_columns_are_refused(ranking: FeatureRanking) -> None:
    with pytest.raises(ConfigError, match="the ranking is of encoder none"):
        select(ranking, SelectionSettings(top=1), SIZES, "other")
    more = replace(SIZES, numeric=("price_z", "stock_z"))
    with pytest.raises(ConfigError, match=r"does not have \['stock_z'\]"):
        select(ranking, SelectionSettings(top=1), more, TABLE.fingerprint)


@pytest.mark.parametrize("both", [{"warm_start": True}, {"base_model": "runs/a"}])
def test_selected_features_and_an_older_model_do_not_go_together(both: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tomorrow's ranking may choose other"):
        ModelSettings.model_validate({"selection": {"top": 3}, **both})
    with pytest.raises(ValueError, match="nothing is selected"):
        SelectionSettings()


def _clustered() -> tuple[TextTable, Columns]:
    """Titles in two tight groups, far from each other; the second is heavy."""
    rng = np.random.default_rng(2)
    group = np.arange(60) % 2
    vectors = np.eye(8)[group] + 0.02 * rng.normal(size=(60, 8))
    table = replace(random_table(3, 60), titles=vectors.astype(np.float32))
    columns = log(3_000)
    columns[f.TITLE_ID] = rng.integers(0, 60, 3_000)
    columns["brand_id"] = group[columns[f.TITLE_ID]]
    for w in (f.positive_weight, f.negative_weight):
        columns[w(f.CTR)] = 1.0 + 2.0 * group[columns[f.TITLE_ID]]
    return table, columns


def test_the_map_puts_like_titles_together_and_knows_their_weights(tmp_path: Path) -> None:
    table, columns = _clustered()
    settings = RankingSettings(map_titles=50, perplexity=10)
    drawn = draw_map(columns, table, settings, columns["brand_id"], ("tools",))
    assert drawn is not None
    place = np.array([drawn.x, drawn.y]).T
    first = np.array(drawn.category) == "tools"
    assert set(drawn.category) == {"tools", "other"}
    assert len(place) == 50
    centres = [place[rows].mean(axis=0) for rows in (first, ~first)]
    nearer = [np.linalg.norm(place - centre, axis=1) for centre in centres]
    assert ((nearer[0] < nearer[1]) == first).all()
    np.testing.assert_allclose(drawn.importance, np.where(first, 2.0, 6.0))
    drawn.save(str(tmp_path))
    assert TitleMap.load(str(tmp_path)) == drawn
    assert draw_map(columns, table, settings, columns["brand_id"], ("tools",)) == drawn


def test_of_a_handful_of_titles_no_map_is_drawn(tmp_path: Path) -> None:
    table, columns = _clustered()
    assert draw_map(columns, table, RankingSettings(map_titles=4)) is None
    assert TitleMap.load(str(tmp_path)) is None
