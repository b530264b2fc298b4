"""The weighing step: which debias, which examination, and what unclicked items get."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import spearmanr

from heft import features as f
from heft.errors import ConfigError, DataError, NotFittedError
from heft.importance import (
    Examination,
    ExaminationPosterior,
    ImportanceData,
    ImportanceSettings,
    OutOfFoldProxy,
    ProxyTrace,
    registry,
)
from heft.importance.affine import AffineCorrection  # noqa: F401
from heft.importance.summary import (
    Extreme,
    edges_of,
    extremes,
    histogram,
    merge_extremes,
    quantiles,
)
from heft.importance.weigh import (
    estimate_examination,
    importance_data,
    weigh_task,
    weigh_tune,
)

THETA = Examination(np.array([1.0, 0.6, 0.35, 0.2]), 1_000, "known")
BARE: dict[str, Any] = {"debias": "examination_posterior", "corrections": {}}
FAST = ImportanceSettings(folds=2, epochs=1, quality={}, value={}, **BARE)


def planted(rows: int = 16_000, seed: int = 0) -> tuple[ImportanceData, np.ndarray]:
    """A position-based click log (PBM), and the attractiveness of each row."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    attractiveness = 1 / (1 + np.exp(0.5 - 1.5 * features[:, 0]))
    position = rng.integers(1, 5, rows)
    data = ImportanceData(
        features=features,
        label=(rng.random(rows) < THETA.at(position) * attractiveness).astype(np.int64),
        group=np.arange(rows) // 4,
        position=position,
        propensity=np.full(rows, np.nan, np.float32),
        pair=rng.integers(0, 50, rows),
    )
    return data, attractiveness


@pytest.fixture(scope="module")
def log() -> tuple[ImportanceData, np.ndarray]:
    return planted()


@pytest.fixture(scope="module")
def posterior(log: tuple[ImportanceData, np.ndarray]) -> np.ndarray:
    proxy = OutOfFoldProxy(folds=2, epochs=3)
    return ExaminationPosterior(proxy, THETA).fit(log[0]).pairs(log[0])


def test_the_mean_of_the_posterior_is_the_attractiveness(
    log: tuple[ImportanceData, np.ndarray], posterior: np.ndarray
) -> None:
    data, attractiveness = log
    assert data.label.mean() < 0.6 * attractiveness.mean()  # the bias that is to be undone
    for position in range(1, 5):
        rows = data.position == position
        found, true = posterior[rows, 0].mean(), attractiveness[rows].mean()
        assert found == pytest.approx(true, abs=0.03), position
    deciles = np.array_split(np.argsort(attractiveness), 10)
    found = [posterior[rows, 0].mean() for rows in deciles]
    assert found == pytest.approx([attractiveness[rows].mean() for rows in deciles], abs=0.06)


def test_posterior_pairs_are_probabilities_and_a_click_is_a_whole_positive(
    log: tuple[ImportanceData, np.ndarray], posterior: np.ndarray
) -> None:
    data, _ = log
    assert ((posterior >= 0) & (posterior <= 1)).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1.0, atol=1e-12)
    assert (posterior[data.label == 1] == [1.0, 0.0]).all()
    # A missing click on the first position, which is always examined, is a whole negative.
    assert (posterior[(data.label == 0) & (data.position == 1)] == [0.0, 1.0]).all()


class KnownProxy(OutOfFoldProxy):
    """A proxy that says what it was told."""

    def __init__(self, attractiveness: np.ndarray) -> None:
        super().__init__(folds=2)
        self.attractiveness = attractiveness

    def fit(self, data: ImportanceData, pairs: np.ndarray | None = None) -> "KnownProxy":
        return self

    def trace(self, data: ImportanceData) -> ProxyTrace:
        return ProxyTrace(self.attractiveness, self.attractiveness)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 9), st.booleans(), st.booleans()),
        min_size=1, max_size=20,
    )
)  # fmt: skip
def test_an_unclicked_item_is_attractive_with_the_probability_of_bayes(
    rows: list[tuple[float, int, bool, bool]],
) -> None:
    attractive, position, click, examined = (np.array(x) for x in zip(*rows, strict=True))
    data = ImportanceData(
        np.zeros((len(rows), 1), np.float32), click.astype(int), np.arange(len(rows)), position,
        np.full(len(rows), np.nan, np.float32), np.arange(len(rows)), examined=examined,
    )  # fmt: skip
    pairs = ExaminationPosterior(KnownProxy(attractive), THETA).fit(data).pairs(data)
    for k, (a, p, clicked, seen) in enumerate(rows):
        theta = 1.0 if seen else float(THETA.at(np.array([p]))[0])
        # P(attractive | no click), over the three ways in which there is no click.
        missed, seen_and_dull, neither = (1 - theta) * a, theta * (1 - a), (1 - theta) * (1 - a)
        total = missed + seen_and_dull + neither
        want = 1.0 if clicked else missed / total if total > 1e-9 else 0.0
        assert pairs[k, 0] == pytest.approx(want, abs=1e-6)
        assert pairs[k].sum() == pytest.approx(1.0)


def test_conversion_pairs_recover_the_conversions_had_every_item_been_examined() -> None:
    """Also far down the page, where conditioning on the click would lose some."""
    data, attractiveness = planted(40_000, seed=1)
    columns = _columns(data, attractiveness)
    bought = np.random.default_rng(2).random(40_000) < 0.4
    columns[f.CONVERSION] = ((columns[f.CLICK] == 1) & bought).astype(np.int64)
    task = importance_data(columns, columns["features"], f.CVR)
    positive = weigh_task(task, THETA, ImportanceSettings(folds=2, **BARE), f.CVR).weights.pairs[
        :, 0
    ]
    low = columns[f.POSITION] == columns[f.POSITION].max()
    for rows in (np.ones(40_000, bool), low):
        truth = 0.4 * attractiveness[rows].mean()
        assert positive[rows].mean() == pytest.approx(truth, rel=0.06)
        assert columns[f.CONVERSION][rows].mean() < 0.75 * truth


@pytest.mark.parametrize("label", [0, 1])
def test_a_task_whose_labels_are_all_the_same_is_left_as_it_is(label: int) -> None:
    """A log without conversions, say: there is nothing to estimate from."""
    data, _ = planted(200)
    same = replace(data, label=np.full(200, label))
    result = weigh_task(same, THETA, ImportanceSettings())
    assert result.weights.pairs.tolist() == [[label, 1 - label]] * 200
    assert result.scores == {}
    if label == 0:
        tuned = weigh_tune(same, THETA, ImportanceSettings())
        assert tuned.weights.pairs.tolist() == [[0, 1]] * 200


def _columns(data: ImportanceData, attractiveness: np.ndarray) -> dict[str, np.ndarray]:
    return {
        f.QUERY_ID: data.pair, f.TITLE_ID: data.pair, f.REQUEST_KEY: data.group,
        f.POSITION: data.position, f.CLICK: data.label, f.CONVERSION: 0 * data.label,
        "features": data.features,
    }  # fmt: skip


def test_samples_of_a_task_have_its_label() -> None:
    data, attractiveness = planted(200)
    columns = _columns(data, attractiveness) | {f.CONVERSION: data.label // 2}
    columns[f.PROPENSITY] = np.where(np.arange(200) % 2, 0.5, 0).astype(np.float32)
    clicks, conversions = (importance_data(columns, data.features, t) for t in f.TASKS)
    assert clicks.label.tolist() == columns[f.CLICK].tolist()
    assert conversions.label.tolist() == columns[f.CONVERSION].tolist()
    # A click tells of examination, but only of clicked rows: conditioning on it would bias.
    assert clicks.examined is None
    assert conversions.examined is None
    assert np.isnan(clicks.propensity[::2]).all() and (clicks.propensity[1::2] == 0.5).all()
    other = columns | {f.TITLE_ID: columns[f.TITLE_ID] + 1, f.QUERY_ID: columns[f.QUERY_ID] - 1}
    assert not set(importance_data(other, data.features, f.CTR).pair) & set(clicks.pair)


@pytest.mark.parametrize(("shuffled_clicks", "source"), [(1_999, "pairs"), (2_000, "shuffled")])
def test_examination_comes_from_shuffled_pages_if_they_hold_enough_clicks(
    shuffled_clicks: int, source: str
) -> None:
    train, _ = planted()
    position = np.tile([1, 1, 1, 2], 1_000)
    shuffled = {f.POSITION: position, f.CLICK: (np.arange(4_000) < shuffled_clicks).astype(int)}
    settings_ = ImportanceSettings(minimum_shuffled_clicks=2_000)
    found = estimate_examination(train, shuffled, settings_)
    assert source in found.source
    if source == "pairs":
        assert found.values == pytest.approx(THETA.values, abs=0.06)
        assert estimate_examination(train, None, settings_).values.tolist() == found.values.tolist()


def test_a_logged_propensity_is_reported_by_position_and_needed_in_every_row() -> None:
    train, _ = planted(4_000)
    logged = ImportanceSettings(propensity="logged")
    with pytest.raises(DataError, match="received 4000 rows without; map the column"):
        estimate_examination(train, None, logged)
    scale = np.random.default_rng(0).choice([0.4, 0.6], len(train))
    known = replace(train, propensity=(scale * THETA.at(train.position)).astype(np.float32))
    found = estimate_examination(known, None, logged)
    assert found.source == "logged"
    assert found.values == pytest.approx(0.5 * THETA.values, abs=0.02)
    pairs = weigh_tune(known, found, logged).weights.pairs
    clicked = known.label == 1
    ratio = (pairs[clicked, 0] / (pairs[clicked].sum(axis=1))) * known.propensity[clicked]
    assert ratio == pytest.approx(1.0, abs=1e-5)  # w⁺ = mass / propensity, row by row


def test_without_debias_the_pair_is_the_label(log: tuple[ImportanceData, np.ndarray]) -> None:
    data, _ = log
    off = FAST.model_copy(update={"debias": "none"})
    curve = estimate_examination(data, None, off)
    assert (curve.values.tolist(), curve.source) == ([1.0], "none")
    plain = np.stack([data.label, 1 - data.label], axis=1)
    for result in (weigh_task(data, curve, off), weigh_tune(data, curve, off)):
        np.testing.assert_array_equal(result.weights.pairs, plain)
        assert result.weights.ess == len(data)


def test_tune_is_weighed_without_scores_or_a_proxy(log: tuple[ImportanceData, np.ndarray]) -> None:
    data, attractiveness = log
    blind = replace(data, features=np.zeros((len(data), 0), np.float32))
    result = weigh_tune(blind, THETA, ImportanceSettings(quality={"label_quality": 2.0}))
    assert result.scores == {}
    pairs = result.weights.pairs
    assert pairs[:, 0].sum() / pairs.sum() == pytest.approx(attractiveness.mean(), abs=0.02)


def test_an_exponent_moves_attention_to_samples_of_high_score() -> None:
    data, _ = planted(3_000)
    off = ImportanceSettings(
        debias="none",
        corrections={},
        folds=2,
        epochs=1,
        quality={"label_quality": 1.0},
        value={"el2n": 0.0},
    )
    result = weigh_task(data, estimate_examination(data, None, off), off)
    assert set(result.scores) == {"label_quality", "el2n"}
    mass = result.weights.pairs.sum(axis=1)
    for label in (0, 1):
        rows = data.label == label
        assert spearmanr(mass[rows], result.scores["label_quality"][rows]).statistic > 0.95
        assert mass[rows].mean() == pytest.approx(1.0, abs=1e-4)
    unused = off.model_copy(update={"quality": {"label_quality": 0.0}})
    flat = weigh_task(data, THETA, unused)
    assert set(flat.scores) == {"label_quality", "el2n"}
    assert np.ptp(flat.weights.pairs.sum(axis=1)) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"debias": "nonsense"}, "Expected one of .* received: debias='nonsense'"),
        ({"debias": ["none", "el2n"]}, "expected 'none' alone, or each name once"),
        ({"debias": {"ctr": "none"}}, r"debias has the tasks \['ctr'\]: expected"),
        ({"debias": "el2n"}, "Expected one of .* received: 'el2n' in debias of ctr"),
        ({"value": {"nonsense": 1.0}}, "Expected one of .* received: estimator='nonsense'"),
        ({"corrections": {"el2n": {}}}, "received: 'el2n' in corrections"),
        (
            {"quality": {"el2n": 1.0}, "value": {"el2n": 0.0}},
            "'el2n' stands in quality and in value",
        ),
        ({"estimators": {"el2n": {"k": 1}}}, "received: el2n.k"),
        ({"estimators": {"inverse_propensity": {}}}, "'inverse_propensity', which nothing uses"),
        (
            {"debias": "inverse_propensity", "estimators": {"inverse_propensity": {"minimum": 2}}},
            r"minimum=2 must be in \(0, 1\]",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_config(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ImportanceSettings(**given)


class Shadow:
    """A positive is seen where the first feature is above 0, and half the time elsewhere."""

    def fit(self, data: ImportanceData) -> "Shadow":
        return self

    def propensity(self, data: ImportanceData) -> np.ndarray:
        return np.where(data.features[:, 0] > 0, 1.0, 0.5)

    score = propensity


def test_what_hides_a_positive_multiplies(
    log: tuple[ImportanceData, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry._REGISTRY, "shadow", Shadow)
    data, _ = log
    chain = ["inverse_propensity", "shadow"]
    own = ImportanceSettings(
        debias={"ctr": chain, "cvr": "none"}, corrections={}, quality={}, value={},
        variance_power=0.0,
    )  # fmt: skip
    pairs = weigh_task(data, THETA, own).weights.pairs
    theta = THETA.at(data.position) * np.where(data.features[:, 0] > 0, 1.0, 0.5)
    np.testing.assert_allclose(pairs[:, 0], data.label / theta, rtol=1e-5)
    plain = weigh_task(data, THETA, own, f.CVR).weights.pairs
    np.testing.assert_array_equal(plain[:, 0], data.label)
    deaf = own.model_copy(
        update={"debias": {"ctr": ["affine_correction", "shadow"], "cvr": "none"}}
    )
    with pytest.raises(ConfigError, match="affine_correction does not take a known propensity"):
        weigh_task(data, THETA, deaf)


def test_optional_columns_reach_the_samples_of_a_task() -> None:
    data, attractiveness = planted(200)
    columns = _columns(data, attractiveness) | {
        f.USER_KEY: data.group // 3,
        f.TIMESTAMP: np.arange(200) * 3_600_000,
        f.CLICK_DELAY: np.where(data.label == 1, 2.0, -1.0).astype(np.float32),
        f.CONVERSION_DELAY: np.full(200, -1.0, np.float32),
        f.OBSERVATION: np.full(200, 60.0, np.float32),
        f.RANDOMISED: np.arange(200) % 2,
        "brand_id": data.pair % 3,
    }
    own = ImportanceSettings(target_days=1.0, sampling_rate=0.5, slice_column="brand")
    found = importance_data(columns, data.features, f.CTR, own, latest=199 * 3_600_000)
    assert found.domain.sum() == 24  # an hour a row
    assert np.isnan(found.delay).all() and (found.elapsed == 60).all()
    np.testing.assert_array_equal(np.isnan(found.click_delay), data.label == 0)
    np.testing.assert_array_equal(found.sampling, np.where(data.label == 1, 1.0, 0.5))
    np.testing.assert_array_equal(found.slice, data.pair % 3)
    np.testing.assert_array_equal(found.relevance, data.features[:, 0])
    assert found.randomised.dtype == bool
    bare = importance_data(_columns(data, attractiveness), data.features, f.CTR)
    for name in ("user", "timestamp", "click_delay", "delay", "elapsed", "domain", "slice"):
        assert getattr(bare, name) is None
    with pytest.raises(ConfigError, match="protected_column='age' is not among"):
        importance_data(columns, data.features, f.CTR, ImportanceSettings(protected_column="age"))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=30),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_the_extremes_of_parts_are_those_of_the_whole(
    rows: list[tuple[int, int]], parts: int, how_many: int
) -> None:
    value, pair = (np.array(x) for x in zip(*rows, strict=True))
    found = []
    for part in np.array_split(np.arange(len(value)), min(parts, len(value))):
        own = extremes(value[part].astype(float), pair[part], how_many)
        found.append(
            {k: [Extreme(v, int(part[0]) + row, p, {}) for v, row, p in x] for k, x in own.items()}
        )
    merged = merge_extremes(found, how_many)
    for name, sign in (("heaviest", 1), ("lightest", -1)):
        first: dict[int, int] = {}
        for row in sorted(range(len(value)), key=lambda k: (-sign * value[k], sign * k)):
            first.setdefault(int(pair[row]), row)
        assert [x.row for x in merged[name]] == list(first.values())[:how_many]


def test_every_row_is_in_the_histogram_and_quantiles_are_by_label() -> None:
    rng = np.random.default_rng(0)
    positive, label = rng.normal(size=500), rng.integers(0, 2, 500)
    edges = edges_of(positive)
    counts = histogram(positive, label, edges)
    assert counts.sum(axis=1).tolist() == [(label == 0).sum(), label.sum()]
    assert edges[-1] == pytest.approx(np.quantile(positive, 0.999))
    found = quantiles(positive, label)
    median = found["negative"][found["points"].index(0.5)]
    assert median == pytest.approx(np.median(positive[label == 0]))
    assert quantiles(positive[label == 0], label[label == 0])["positive"] == []


def test_bad_settings_and_pairs_before_fit() -> None:
    with pytest.raises(ConfigError, match="minimum=0 "):
        ExaminationPosterior(minimum=0)
    with pytest.raises(NotFittedError, match=r"call ExaminationPosterior.fit\(data\)"):
        ExaminationPosterior().pairs(planted(8)[0])
