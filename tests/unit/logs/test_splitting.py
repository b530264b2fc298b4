"""Splits are by time, and a request is never torn apart."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heft.errors import DataError
from heft.logs.settings import SplitSettings
from heft.logs.splitting import IMPRESSION_SPLITS, RequestTimes, SplitPlan, plan_splits

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
