"""Input that cannot be right, for every estimator: one clear message, or finite results.

Never a traceback of a library, a NaN that nobody mentions, or a negative weight
that no unbiased correction asks for.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heft import features as f
from heft.errors import DataError, HeftError
from heft.importance import (
    Examination,
    ImportanceData,
    ImportanceSettings,
    OutOfFoldProxy,
    from_pairs,
    from_shuffled_pages,
)
from heft.importance.registry import create, names, parameters
from heft.importance.weigh import estimate_examination, weigh_task
from tests.unit.importance.test_any_rows import rich

LOG, CLEAN = rich(240, 0), rich(120, 7)
ROWS = len(LOG)
NOBODY = np.zeros(0, np.int64)
SMALL: dict[str, dict[str, Any]] = {
    "data_oob": {"models": 5},
    "learned": {"steps": 10},
    "lime": {"max_rows": 2, "points": 20, "folds": 2, "trees": 2},
    "shap": {"folds": 2, "trees": 2},
}
# Of an unbiased correction alone is a negative weight right.
UNBIASED = {"inverse_propensity", "affine_correction", "delayed_feedback"}
FEW = np.arange(ROWS) < 5


def _put(column: str, value: float, rows: np.ndarray = FEW) -> ImportanceData:
    changed = np.array(getattr(LOG, column), copy=True)
    changed[rows] = value
    return replace(LOG, **{column: changed})


def _labels(label: np.ndarray) -> ImportanceData:
    return replace(LOG, label=label.astype(np.int64))


Case = Callable[[], tuple[ImportanceData, ImportanceData | None]]
CASES: dict[str, Case] = {
    "labels of 0": lambda: (_labels(np.zeros(ROWS)), CLEAN),
    "labels of 1": lambda: (_labels(np.ones(ROWS)), CLEAN),
    "one positive, so one class outside a fold": lambda: (_labels(np.arange(ROWS) == 5), CLEAN),
    "positives of one request": lambda: (_labels(LOG.group == LOG.group[8]), CLEAN),
    "the same features everywhere": lambda: (
        replace(LOG, features=np.ones((ROWS, 5), np.float32)), CLEAN),
    "no features": lambda: (
        replace(LOG, features=np.zeros((ROWS, 0), np.float32)),
        replace(CLEAN, features=np.zeros((len(CLEAN), 0), np.float32))),
    "a reference of no rows": lambda: (LOG, CLEAN.take(NOBODY)),
    "no reference": lambda: (LOG, None),
    "a reference of one label": lambda: (
        LOG, replace(CLEAN, label=np.ones(len(CLEAN), np.int64))),
    "a reference of other columns": lambda: (
        LOG, replace(CLEAN, features=CLEAN.features[:, :3])),
    "hardly observed": lambda: (_put("observed", 1e-30), CLEAN),
    "nothing observed": lambda: (replace(LOG, observed=None), CLEAN),
    "tiny propensities": lambda: (replace(LOG, propensity=np.full(ROWS, 1e-30)), CLEAN),
    "propensities of some": lambda: (_put("propensity", 0.5), CLEAN),
    "rows repeated": lambda: (LOG.take(np.repeat(np.arange(20), 10)), CLEAN),
    "one row repeated": lambda: (LOG.take(np.zeros(ROWS, np.int64)), CLEAN),
    "the same ids everywhere": lambda: (
        replace(LOG, group=np.ones(ROWS, np.int64), pair=np.ones(ROWS, np.int64)), CLEAN),
    "no rows": lambda: (LOG.take(NOBODY), CLEAN),
    "one row": lambda: (LOG.take(np.array([0])), CLEAN),
    "one request": lambda: (
        replace(LOG.take(np.arange(4)), label=np.array([1, 0, 0, 1])), CLEAN),
    "no position": lambda: (replace(LOG, position=np.zeros(ROWS, np.int64)), CLEAN),
    "some without position": lambda: (_put("position", 0, np.arange(ROWS) < 40), CLEAN),
    "negative positions": lambda: (_put("position", -3), CLEAN),
    "huge positions": lambda: (_put("position", 10**9), CLEAN),
    "one position": lambda: (replace(LOG, position=np.full(ROWS, 7, np.int64)), CLEAN),
    "endless delays": lambda: (
        replace(LOG, delay=np.full(ROWS, np.inf), click_delay=np.full(ROWS, np.inf)), CLEAN),
    "negative delays": lambda: (
        replace(LOG, delay=np.full(ROWS, -5.0), click_delay=np.full(ROWS, -5.0)), CLEAN),
    "no time to convert": lambda: (replace(LOG, elapsed=np.zeros(ROWS)), CLEAN),
    "a sampling rate of 0": lambda: (_put("sampling", 0.0), CLEAN),
    "a slice for each row": lambda: (
        replace(LOG, slice=np.arange(ROWS), protected=np.arange(ROWS)), CLEAN),
    "one domain": lambda: (replace(LOG, domain=np.ones(ROWS, np.int64)), CLEAN),
    "NaN where texts are compared": lambda: (
        replace(_put("relevance", np.nan), spoken=np.full(ROWS, np.nan)), CLEAN),
    "bots alone": lambda: (replace(LOG, human=np.zeros(ROWS)), CLEAN),
    "nothing optional": lambda: (
        ImportanceData(LOG.features, LOG.label, LOG.group, LOG.position, LOG.propensity, LOG.pair),
        CLEAN),
}  # fmt: skip
# Each fit of these takes a second: the cases that are about what they read.
LONG = {"learned", "ensemble", "fraud", "domain_ratio", "data_oob", "lime", "shap"}
SOME = [
    "labels of 0", "one positive, so one class outside a fold", "no features",
    "a reference of no rows", "no rows", "one request", "no position", "huge positions",
    "endless delays", "one domain", "hardly observed", "nothing optional",
]  # fmt: skip
LATE = LOG.take(np.arange(40))
LATER: dict[str, Callable[[], ImportanceData]] = {
    "no rows": lambda: LOG.take(NOBODY),
    "one row": lambda: LOG.take(np.array([3])),
    "other columns": lambda: replace(LATE, features=LATE.features[:, :3]),
    "other keys": lambda: rich(40, 99),
    "labels of 1": lambda: replace(LATE, label=np.ones(40, np.int64)),
    "no position": lambda: replace(LATE, position=np.zeros(40, np.int64)),
    "large features": lambda: replace(LATE, features=np.full((40, 5), 9e14, np.float32)),
    "no time to convert": lambda: replace(LATE, elapsed=np.zeros(40)),
}


def _make(name: str, reference: ImportanceData | None) -> Any:
    offered = {
        "proxy": OutOfFoldProxy(folds=2, epochs=1),
        "reference": reference,
        "random_state": 3,
    }
    taken = {key: value for key, value in offered.items() if key in parameters(name)}
    return create(name, **taken, **SMALL.get(name, {}))


def _ask(name: str, fitted: Any, data: ImportanceData) -> None:
    for method in ("score", "weight", "propensity", "pairs"):
        if not hasattr(fitted, method):
            continue
        found = np.asarray(getattr(fitted, method)(data))
        assert found.shape == ((len(data), 2) if method == "pairs" else (len(data),))
        assert np.isfinite(found).all(), method
        if not found.size:
            continue
        if method == "propensity":
            assert found.min() > 0 and found.max() <= 1
        if method == "weight" or (method == "pairs" and name not in UNBIASED):
            assert found.min() >= 0, method


def _judge(name: str, case: str, judge: Callable[[], None]) -> None:
    """Nothing but an error of ours, in words, may come out of it."""
    try:
        judge()
    except HeftError as error:
        words = len(str(error).split())
    except Exception as error:
        raise AssertionError(f"{name}, {case}: {type(error).__name__}: {error}") from error
    else:
        return
    assert words > 5, case


@pytest.mark.parametrize("name", names())
def test_it_is_refused_in_words_or_judged_in_numbers(name: str) -> None:
    for case in SOME if name in LONG else CASES:

        def judge(given: Case = CASES[case]) -> None:
            data, reference = given()
            _ask(name, _make(name, reference).fit(data), data)

        _judge(name, case, judge)


@pytest.mark.parametrize("name", names())
def test_so_are_rows_that_come_after_the_fit(name: str) -> None:
    fitted = _make(name, CLEAN).fit(LOG)
    for case, given in LATER.items():
        _judge(name, case, lambda given=given: _ask(name, fitted, given()))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("propensity", 0.0, r"propensity=0.0 in 5 rows: expected values in \(0, 1\]"),
        ("propensity", -0.5, "propensity=-0.5 in 5 rows"),
        ("propensity", 1.5, "propensity=1.5 in 5 rows"),
        ("propensity", np.inf, "propensity=inf in 5 rows"),
        ("observed", 0.0, r"observed=0.0 in 5 rows: expected a probability in \(0, 1\]"),
        ("observed", 1.01, r"observed=1.0\d* in 5 rows"),
        ("observed", np.nan, "observed=nan in 5 rows"),
        ("human", 2.0, r"human=2.0 in 5 rows: expected a probability in \[0, 1\]"),
        ("human", np.nan, "human=nan in 5 rows"),
        ("features", np.nan, "feature column 0 holds NaN or infinity"),
        ("features", np.inf, "feature column 0 holds NaN or infinity"),
        ("features", 3e38, "feature column 0 holds 3e.38: expected numbers within"),
        ("label", 2, "label=2: expected 0 or 1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_estimator_sees_it(
    column: str, value: float, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _put(column, value)


@pytest.mark.parametrize("outside", [0, -1, -7])
def test_rows_without_a_position_say_nothing_of_examination(outside: int) -> None:
    log = rich(2_400, 3)
    lost = np.arange(len(log)) < 300
    position = np.where(lost, outside, log.position)
    for found, want in (
        (from_pairs(position, log.label, log.pair),
         from_pairs(log.position[~lost], log.label[~lost], log.pair[~lost])),
        (from_shuffled_pages(position, log.label),
         from_shuffled_pages(log.position[~lost], log.label[~lost])),
    ):  # fmt: skip
        np.testing.assert_array_equal(found.values, want.values)
        assert found.clicks == want.clicks
    nowhere = np.full(len(log), outside)
    for estimate in (
        lambda: from_pairs(nowhere, log.label, log.pair),
        lambda: from_shuffled_pages(nowhere, log.label),
    ):
        with pytest.raises(DataError, match="0 of 2000 rows have a position from 1"):
            estimate()


def test_logged_propensities_do_without_positions() -> None:
    log = replace(
        LOG, propensity=np.full(ROWS, 0.25, np.float32), position=np.zeros(ROWS, np.int64)
    )
    settings = ImportanceSettings(propensity="logged", debias="inverse_propensity", corrections={})
    curve = estimate_examination(log, None, settings)
    assert curve.values == pytest.approx([0.25])
    assert np.isfinite(weigh_task(log, curve, settings).weights.pairs).all()
    with pytest.raises(DataError, match="propensity: logged received 0 rows"):
        estimate_examination(log.take(NOBODY), None, settings)


@pytest.mark.parametrize("mode", ["pair", "plain", "formula_4_2"])
def test_weights_that_all_clip_are_finite_and_keep_the_base_rate(mode: str) -> None:
    settings = ImportanceSettings(
        debias="none", corrections={}, quality={}, value={"random": 500.0}, clip=1.5,
        minimum_ess=1.0, mode=mode, folds=2, epochs=1,
    )  # fmt: skip
    weights = weigh_task(LOG, Examination(np.ones(4), 9, "known"), settings, f.CTR).weights
    assert np.isfinite(weights.pairs).all() and weights.pairs.min() >= 0
    assert weights.clip <= 1.01  # nothing is left of scores
    if mode != "formula_4_2":
        for label, column in ((1, 0), (0, 1)):
            assert weights.pairs[LOG.label == label, column].mean() == pytest.approx(1.0, abs=1e-3)
