"""Splits are by time, and a request is never torn apart."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.logs.settings import SplitSettings
from heft.logs.splitting import (
    IMPRESSION_SPLITS,
    RequestTimes,
    SplitPlan,
    kept_negatives,
    plan_splits,
)

TRAIN, TUNE, NATURAL, HARVEST, SHUFFLED = range(5)

# Rows of a request lie on both sides of every cut, and disagree on `shuffled`.
_rows = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 50), st.booleans()),
    min_size=1,
    max_size=120,
)


def _hashes(requests: np.ndarray) -> np.ndarray:
    return requests.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _plan(rows: list[Any], chunks: int, split: SplitSettings) -> tuple[SplitPlan, Any]:
    request, time, shuffled = (np.array(column) for column in zip(*rows, strict=True))
    columns = (_hashes(request), time.astype(np.int64), shuffled)
    parts = [
        RequestTimes.of_rows(*(column[n::chunks] for column in columns))
        for n in range(chunks) if len(request[n::chunks])
    ]  # fmt: skip
    return plan_splits(RequestTimes.merged(parts), split), columns


@settings(max_examples=150, deadline=None)
@given(_rows, st.integers(1, 4))
def test_a_request_never_straddles_two_splits(rows: list[Any], chunks: int) -> None:
    try:
        plan, columns = _plan(rows, chunks, SplitSettings())
    except DataError:
        return  # too few times to cut; the message is judged below
    split = plan.assign(*columns)
    by_request: dict[int, set[int]] = {}
    first: dict[int, int] = {}
    shuffled: dict[int, bool] = {}
    for (request, time, random), place in zip(rows, split, strict=True):
        by_request.setdefault(request, set()).add(int(place))
        first[request] = min(first.get(request, time), time)
        shuffled[request] = shuffled.get(request, False) or random
    assert all(len(places) == 1 for places in by_request.values())
    counts = dict.fromkeys(IMPRESSION_SPLITS, 0)
    for places in by_request.values():
        counts[IMPRESSION_SPLITS[places.pop()]] += 1
    assert plan.requests == {name: count for name, count in counts.items() if count}
    for (request, _, _), place in zip(rows, split, strict=True):
        assert (place in (HARVEST, SHUFFLED)) == shuffled[request]
        if place == NATURAL:
            assert first[request] >= plan.natural_from
        if place == TRAIN:
            assert first[request] < plan.tune_from


def test_cuts_are_exact_over_requests_not_rows() -> None:
    # Early requests have many rows: a quantile over rows would cut elsewhere.
    rows = [(n, n, False) for n in range(100) for _ in range(50 if n < 10 else 1)]
    plan, columns = _plan(rows, 3, SplitSettings(tune=0.1, natural=0.2))
    split = dict(zip((row[0] for row in rows), plan.assign(*columns), strict=True))
    assert [split[n] for n in range(100)] == [TRAIN] * 70 + [TUNE] * 10 + [NATURAL] * 20


def test_shuffled_pages_are_shared_out_by_hash() -> None:
    rows = [(n, n, True) for n in range(4_000)] + [(9_000 + n, n, False) for n in range(50)]
    plan, _ = _plan(rows, 1, SplitSettings(shuffled_for_estimation=0.25))
    # Binomial(4000, .25): six standard deviations are 164.
    assert abs(plan.requests["harvest"] - 1_000) < 165
    assert plan.requests["harvest"] + plan.requests["shuffled"] == 4_000


@pytest.mark.parametrize("times", [[5] * 40, [5]])
def test_a_log_without_enough_time_says_which_split_is_empty(times: list[int]) -> None:
    rows = [(n, time, False) for n, time in enumerate(times)]
    with pytest.raises(DataError, match=r"the split 'train' is empty.*1 distinct times"):
        _plan(rows, 1, SplitSettings())


def test_no_fraction_no_split() -> None:
    plan, _ = _plan([(n, n, False) for n in range(10)], 1, SplitSettings(tune=0, natural=0))
    assert plan.requests == {"train": 10}


@settings(max_examples=100, deadline=None)
@given(_rows, st.integers(1, 4), st.sampled_from(["request", "user"]), st.integers(0, 5))
def test_by_hash_a_request_is_whole_and_stays_where_it_was(
    rows: list[Any], chunks: int, by: str, more: int
) -> None:
    """`time` plays the part of the user here: rows of one request have several."""
    own = SplitSettings(by=by, tune=0.2, natural=0.3)

    def places(found: list[Any]) -> np.ndarray:
        who = np.array([row[0 if by == "request" else 1] for row in found])
        return (_hashes(who + 1_000) >> np.uint64(11)).astype(np.int64)

    def plan_of(found: list[Any]) -> tuple[SplitPlan, Any]:
        request, _, shuffled = (np.array(column) for column in zip(*found, strict=True))
        columns = (_hashes(request), places(found), shuffled)
        parts = [RequestTimes.of_rows(*(c[n::chunks] for c in columns)) for n in range(chunks)
                 if len(request[n::chunks])]  # fmt: skip
        return plan_splits(RequestTimes.merged(parts), own), columns

    try:
        plan, columns = plan_of(rows)
        later, grown = plan_of([*rows, *((1_000 + n, n, False) for n in range(more))])
    except DataError:
        return  # too few hashes to cut; the message is judged below
    split = plan.assign(*columns)
    by_request: dict[int, set[int]] = {}
    for (request, _, _), place in zip(rows, split, strict=True):
        by_request.setdefault(request, set()).add(int(place))
    assert all(len(found) == 1 for found in by_request.values())
    # A longer log moves nobody.
    assert later.assign(*grown)[: len(rows)].tolist() == split.tolist()


@pytest.mark.parametrize("by", ["request", "user"])
def test_fractions_are_met_by_hash(by: str) -> None:
    rng = np.random.default_rng(3)
    hashes = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    places = (hashes >> np.uint64(11)).astype(np.int64)
    requests = RequestTimes.of_rows(hashes, places, rng.random(20_000) < 0.2)
    plan = plan_splits(requests, SplitSettings(by=by, tune=0.1, natural=0.3))
    whole = sum(plan.requests[name] for name in ("train", "tune", "natural"))
    # Binomial(16,000, .3): six standard deviations are .022 of them.
    assert abs(plan.requests["natural"] / whole - 0.3) < 0.022
    assert abs(plan.requests["tune"] / whole - 0.1) < 0.015


def test_sampling_is_another_draw_than_the_splits() -> None:
    rng = np.random.default_rng(4)
    hashes = rng.integers(0, 2**64, 50_000, dtype=np.uint64)
    kept = kept_negatives(hashes, 0.25)
    # Six standard deviations of a share of 50,000 draws, and of 25,000 of them.
    assert abs(kept.mean() - 0.25) < 0.012
    assert abs(kept[hashes < np.uint64(2**63)].mean() - 0.25) < 0.017
    assert not np.any(kept & ~kept_negatives(hashes, 0.5)), "more stay, and all that stayed"
    assert kept_negatives(hashes, 1.0).all()


def test_too_few_users_to_be_cut_are_named() -> None:
    hashes = _hashes(np.arange(50))
    same = np.full(50, 2**52)
    requests = RequestTimes.of_rows(hashes, same, np.zeros(50, bool))
    with pytest.raises(DataError, match=r"50 requests .* 1 hashes of a user cannot .* by time"):
        plan_splits(requests, SplitSettings(by="user"))
