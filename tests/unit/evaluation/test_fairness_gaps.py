"""Gaps between groups are those that were planted; a limit is past only when that is sure."""

import numpy as np
import pytest

from heft.evaluation import BootstrapSettings, EvaluationSettings, FairnessSettings, ViewData
from heft.evaluation.fairness import fairness_gaps
from heft.evaluation.results import FairnessGap

PAGES = 600


def _settings(**limits: float) -> EvaluationSettings:
    return EvaluationSettings(
        bootstrap=BootstrapSettings(resamples=200),
        slice_resamples=100,
        fairness=FairnessSettings(columns=("group",), min_clicks=20, **limits),
    )


@pytest.fixture(scope="module")
def view() -> ViewData:
    """Group b is promised half of its clicks; of group c there are too few to say."""
    rng = np.random.default_rng(0)
    n = PAGES * 10
    group = rng.choice(["a", "b", "c"], n, p=[0.6, 0.395, 0.005])
    truth = rng.beta(1, 4, n)
    click = (rng.random(n) < truth).astype(int)
    weighted = np.where(group == "b", truth / 2, truth)
    return ViewData(
        "natural",
        {"ctr": weighted},
        {"ctr": truth},
        click=click,
        request=np.repeat([f"r{k}" for k in range(PAGES)], 10).astype(object),
        slices={"group": np.array([g.encode() for g in group], object)},
    )


def _gaps(view: ViewData, **limits: float) -> dict[str, FairnessGap]:
    return {gap.metric: gap for gap in fairness_gaps(view, _settings(**limits))}


def test_gaps_by_hand(view: ViewData) -> None:
    gaps = _gaps(view)
    group = view.slices["group"]
    click, score = view.click, view.weighted["ctr"]
    ratio = {g: score[group == g].sum() / click[group == g].sum() for g in (b"a", b"b")}
    found = gaps["calibration"]
    assert (found.highest, found.lowest) == ("a", "b")
    assert [rate.value for rate in found.groups] == ["a", "b"]
    assert found.gap == pytest.approx(ratio[b"a"] - ratio[b"b"], abs=1e-12)
    assert found.low < found.gap < found.high
    # Where the model expects a click: as many of the likeliest rows as there are clicks.
    bar = np.sort(score)[-int(click.sum())]
    missed = {g: np.mean(score[(group == g) & (click == 1)] < bar) for g in (b"a", b"b")}
    found = gaps["false_negative_rate"]
    assert found.gap == pytest.approx(missed[b"b"] - missed[b"a"], abs=1e-12)
    assert (found.highest, found.lowest) == ("b", "a")
    assert found.gap > 0.2 > abs(found.control_gap)


def test_only_what_is_surely_past_its_limit_is_too_large(view: ViewData) -> None:
    assert not _gaps(view)["calibration"].too_large, "no limit was set"
    found = _gaps(view, maximum_calibration_gap=0.1)["calibration"]
    assert found.too_large
    between = (found.low + found.gap) / 2
    assert not _gaps(view, maximum_calibration_gap=between)["calibration"].too_large


def test_one_group_alone_has_no_gap(view: ViewData) -> None:
    rows = np.flatnonzero(view.slices["group"] != b"b")
    part = view.take(rows)
    alone = ViewData(
        "natural", part.weighted, part.control, click=part.click, request=part.request,
        slices={"group": view.slices["group"][rows]},
    )  # fmt: skip
    assert fairness_gaps(alone, _settings()) == ()
