import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from heft import features
from heft.text.pairs import count_pairs
from heft.text.reduction import Projection, reduce_vectors, sample_pairs, weighted_pca
from heft.text.settings import TextSettings

RNG = np.random.default_rng(7)
ROWS = (RNG.normal(size=(60, 8)) @ RNG.normal(size=(8, 8)) + 3).astype(np.float32)
COUNTS = RNG.integers(0, 9, 60)


def pca(rows: np.ndarray, counts: np.ndarray, dimensions: float, whiten: bool) -> Projection:
    return weighted_pca(lambda block: rows[block], counts, dimensions, whiten=whiten)


@pytest.mark.parametrize("whiten", [True, False])
def test_weights_count_as_repeats_would(whiten: bool) -> None:
    repeated = np.repeat(ROWS, COUNTS, axis=0)
    reference = PCA(5, whiten=whiten).fit(repeated)
    got = pca(ROWS, COUNTS, 5, whiten)
    np.testing.assert_allclose(got.explained, reference.explained_variance_ratio_, rtol=1e-5)
    np.testing.assert_allclose(got.mean, reference.mean_, rtol=1e-5)
    want = reference.transform(repeated)
    ours = got.apply(repeated)
    signs = np.sign((want * ours).sum(axis=0))
    # scikit-learn whitens by the sample variance, with n - 1; the traffic is all there is here.
    scale = np.sqrt(len(repeated) / (len(repeated) - 1)) if whiten else 1.0
    np.testing.assert_allclose(ours, want * signs * scale, atol=2e-4)


def test_whitened_outputs_have_unit_variance_over_the_traffic() -> None:
    reduced = pca(ROWS, COUNTS, 6, True).apply(ROWS)
    mean = np.average(reduced, axis=0, weights=COUNTS)
    np.testing.assert_allclose(mean, 0, atol=1e-5)
    variance = np.average((reduced - mean) ** 2, axis=0, weights=COUNTS)
    np.testing.assert_allclose(variance, 1, rtol=1e-4)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pca(ROWS, COUNTS, 4, True)
    monkeypatch.setattr("heft.text.reduction._BLOCK", 7)
    blocks = pca(ROWS, COUNTS, 4, True)
    np.testing.assert_allclose(blocks.components, whole.components, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("distinct", "kept"), [(1, 0), (2, 1), (4, 3), (60, 8)])
def test_rows_that_span_less_give_fewer_components(distinct: int, kept: int) -> None:
    rows = ROWS[np.arange(60) % distinct]
    got = pca(rows, np.ones(60), 8, True)
    assert got.components.shape == (kept, 8)
    assert got.apply(rows).shape == (60, kept)
    assert np.isfinite(got.apply(rows)).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=80), st.integers(1, 60))
def test_sampled_pairs_stand_for_the_traffic(counts: list[int], size: int) -> None:
    pairs = np.stack([np.arange(len(counts)), np.arange(len(counts)) * 2], axis=1)
    kept, times = sample_pairs(pairs, np.array(counts), size)
    assert len(np.unique(kept, axis=0)) == len(kept) <= max(size, 0)
    if len(counts) <= size:
        assert times.tolist() == counts
        return
    # Systematic sampling: no pair is off its share of the draws by more than one.
    drawn = np.zeros(len(counts))
    drawn[kept[:, 0]] = times
    assert drawn.sum() == size
    assert np.abs(drawn - np.array(counts) / sum(counts) * size).max() <= 1 + 1e-9


def test_the_three_projections_follow_the_traffic_of_pairs() -> None:
    queries, titles = ROWS[:20], ROWS[20:]
    pairs = np.array([(q, t) for q in range(20) for t in range(40) if (q * t) % 3 == 0])
    counts = RNG.integers(1, 5, len(pairs))
    wanted = TextSettings(query_dimensions=3, title_dimensions=2, product_dimensions=4)
    got = reduce_vectors(queries, titles, pairs, counts, wanted)
    rows = np.repeat(pairs, counts, axis=0)
    seen = {
        "query": queries[rows[:, 0]],
        "title": titles[rows[:, 1]],
        "product": queries[rows[:, 0]] * titles[rows[:, 1]],
    }
    for name, dimensions in (("query", 3), ("title", 2), ("product", 4)):
        reference = PCA(dimensions).fit(seen[name])
        projection: Projection = getattr(got, name)
        np.testing.assert_allclose(projection.mean, reference.mean_, rtol=1e-4)
        np.testing.assert_allclose(
            projection.explained, reference.explained_variance_ratio_, rtol=1e-4
        )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), max_size=20)))
def test_pairs_are_counted_as_a_counter_would(batches: list[list[tuple[int, int]]]) -> None:
    columns = []
    expected: dict[tuple[int, int], int] = {}
    for batch in batches:
        ids = np.array(batch, np.int64).reshape(-1, 2)
        columns.append({features.QUERY_ID: ids[:, 0], features.TITLE_ID: ids[:, 1]})
        for query, title in batch:
            if query >= 0 and title >= 0:
                expected[query, title] = expected.get((query, title), 0) + 1
    pairs, counts = count_pairs(columns)
    assert list(map(tuple, pairs.tolist())) == sorted(expected)
    assert counts.tolist() == [expected[key] for key in sorted(expected)]


def test_pairs_merged_in_many_steps_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = RNG.integers(0, 2**31 - 1, (50, 2))[RNG.integers(0, 50, 400)]
    batches = [
        {features.QUERY_ID: part[:, 0], features.TITLE_ID: part[:, 1]}
        for part in np.array_split(ids, 13)
    ]
    want_pairs, want_counts = np.unique(ids, axis=0, return_counts=True)
    monkeypatch.setattr("heft.text.pairs._MERGED_AT_ONCE", 60)
    pairs, counts = count_pairs(batches)
    assert np.array_equal(pairs, want_pairs)
    assert np.array_equal(counts, want_counts)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_a_share_of_variance_keeps_the_fewest_components_that_explain_it(share: float) -> None:
    kept = pca(ROWS, COUNTS, share, False)
    assert kept.explained.sum() >= share
    assert kept.explained[:-1].sum() < share
    reference = PCA(share).fit(np.repeat(ROWS, COUNTS, axis=0))
    assert len(kept.components) == reference.n_components_


def test_a_share_of_rows_that_span_little_is_all_they_span() -> None:
    assert pca(ROWS[np.arange(60) % 2], np.ones(60), 0.99, True).components.shape == (1, 8)
    assert pca(ROWS[np.zeros(60, int)], np.ones(60), 0.99, True).components.shape == (0, 8)


@pytest.mark.parametrize(("given", "fits"), [(0, True), (12, True), (0.9, True), (1.5, False),
                                             (1.0, False), (-1, False), (0.0, False)])  # fmt: skip
def test_dimensions_are_a_number_or_a_share(given: float, fits: bool) -> None:
    if fits:
        assert (
            TextSettings.model_validate_json(
                TextSettings(title_dimensions=given).model_dump_json()
            ).title_dimensions
            == given
        )
    else:
        with pytest.raises(ValueError, match="title_dimensions"):
            TextSettings(title_dimensions=given)
