"""The bootstrap keeps its promises, and the verdict follows from the right view."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from heft.errors import DataError
from heft.evaluation import (
    BootstrapSettings,
    Comparison,
    EvaluationSettings,
    ViewData,
    compare,
    gauc,
)
from heft.evaluation.bootstrap import paired_bootstrap
from heft.evaluation.metrics import Auc
from heft.evaluation.views import view_metrics

QUICK = EvaluationSettings(
    bootstrap=BootstrapSettings(resamples=200), slice_resamples=20, min_slice_rows=50
)


def make_view(name: str, noise: tuple[float, float], seed: int = 0, groups: int = 200) -> ViewData:
    """Ten rows a group; each model sees the truth through its own noise."""
    rng = np.random.default_rng(seed)
    rows = groups * 10
    truth = rng.normal(size=rows) - 1
    click = (rng.random(rows) < _sigmoid(truth)).astype(int)
    models = []
    for scale in noise:
        ctr = _sigmoid(truth + scale * rng.normal(size=rows)).astype(np.float32)
        models.append({"ctr": ctr, "cvr": ctr * 0 + 0.1, "ctcvr": ctr * 0.1})
    keys = np.repeat([f"g{i}".encode() for i in range(groups)], 10).astype(object)
    graded = name == "graded"
    return ViewData(
        name,
        *models,
        click=None if graded else click,
        conversion=None if graded else click * (rng.random(rows) < 0.2),
        grade=np.clip(np.round(truth + 1.5), 0, 3) if graded else None,
        request=None if graded else keys,
        query=keys if graded else None,
        slices={"device": rng.choice([b"phone", b"desk"], rows).astype(object)},
    )


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_metrics_are_those_of_each_model_on_each_view() -> None:
    natural, graded = make_view("natural", (0.3, 0.9)), make_view("graded", (0.3, 0.9))
    result = compare({"natural": natural, "graded": graded}, QUICK)
    assert set(result.views) == {"natural", "graded"}
    for model in ("weighted", "control"):
        figures = result.metrics(model)["natural"]
        heads = getattr(natural, model)
        assert figures["ctr_auc"] == pytest.approx(roc_auc_score(natural.click, heads["ctr"]))
        assert figures["ctcvr_auc"] == pytest.approx(
            roc_auc_score(natural.conversion, heads["ctcvr"])
        )
        relevant = roc_auc_score(graded.grade >= 2, getattr(graded, model)["ctr"])
        assert result.metrics(model)["graded"]["ctr_auc_relevant"] == pytest.approx(relevant)
    assert set(result.metrics("control")["graded"]) == {
        "ctr_auc", "ctr_auc_relevant", "ctr_ndcg_at_10", "ctr_ece",
    }  # fmt: skip


def test_slices_hold_the_metrics_of_their_rows_only() -> None:
    view = make_view("shuffled", (0.3, 0.9))
    (desk, phone) = sorted(compare({"shuffled": view}, QUICK).views["shuffled"].slices,
                           key=lambda part: part.value)  # fmt: skip
    assert (desk.value, phone.value) == ("desk", "phone")
    assert desk.rows + phone.rows == view.rows
    rows = view.slices["device"] == b"phone"
    expected = roc_auc_score(view.click[rows], view.control["ctr"][rows])
    auc = next(metric for metric in phone.metrics if metric.name == "ctr_auc")
    assert auc.control == pytest.approx(expected)


def test_a_resample_is_the_metric_of_the_drawn_rows() -> None:
    """The fast bootstrap against its slow twin: materialised rows, scikit-learn."""
    view = make_view("shuffled", (0.3, 0.9), groups=30)
    codes = np.repeat(np.arange(30), 10)
    settings = BootstrapSettings(resamples=40, seed=5)
    label = np.asarray(view.click, float)
    pair = (Auc(label, view.weighted["ctr"]), Auc(label, view.control["ctr"]))
    fast = paired_bootstrap({"auc": pair}, codes, settings, "x")["auc"]
    rng = np.random.default_rng([5, zlib.crc32(b"x")])
    slow = []
    for _ in range(40):
        drawn = rng.integers(0, 30, 30)
        rows = (drawn[:, None] * 10 + np.arange(10)).ravel()
        slow.append(
            roc_auc_score(label[rows], view.weighted["ctr"][rows])
            - roc_auc_score(label[rows], view.control["ctr"][rows])
        )
    np.testing.assert_allclose([fast.low, fast.high], np.quantile(slow, [0.025, 0.975]), atol=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    settings = BootstrapSettings(resamples=100, confidence=0.9)
    covered = 0
    for seed in range(100):
        view = make_view("shuffled", (0.8, 0.8), seed=seed, groups=60)  # no true difference
        label = np.asarray(view.click, float)
        pair = (Auc(label, view.weighted["ctr"]), Auc(label, view.control["ctr"]))
        interval = paired_bootstrap({"d": pair}, np.repeat(np.arange(60), 10), settings)["d"]
        covered += interval.low <= 0 <= interval.high
    # Binomial(100, .9): 79 to 99 holds 99.9 % of it.
    assert 79 <= covered <= 99


def test_groups_are_drawn_whole() -> None:
    """Copied pages add no information, so they must not narrow the interval."""
    view = make_view("shuffled", (0.3, 0.9), groups=100)
    label = np.asarray(view.click, float)
    codes = np.repeat(np.arange(100), 10)
    widths = []
    for copies in (1, 4):
        pair = tuple(
            Auc(np.tile(label, copies), np.tile(model["ctr"], copies))
            for model in (view.weighted, view.control)
        )
        found = paired_bootstrap({"d": pair}, np.tile(codes, copies), QUICK.bootstrap)["d"]
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)


def test_the_order_of_rows_changes_nothing() -> None:
    view = make_view("graded", (0.3, 0.9))
    order = np.random.default_rng(0).permutation(view.rows)
    first = compare({"graded": view}, QUICK).views["graded"].metrics
    second = compare({"graded": view.take(order)}, QUICK).views["graded"].metrics
    for one, other in zip(first, second, strict=True):
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=1e-9)


@pytest.mark.parametrize(
    ("noise", "outcome"),
    [((0.2, 1.5), "helped"), ((1.5, 0.2), "harmed"), ((0.8, 0.8), "no difference shown")],
)
def test_the_verdict(noise: tuple[float, float], outcome: str) -> None:
    verdict = compare({"shuffled": make_view("shuffled", noise)}, QUICK).verdict
    assert verdict.outcome == outcome
    assert not verdict.biased
    assert "shuffled" in verdict.sentence
    assert f"{verdict.difference:+.4f}" in verdict.sentence


def test_harm_within_the_tolerance_is_not_harm() -> None:
    lax = QUICK.model_copy(update={"tolerance": 0.5})
    verdict = compare({"shuffled": make_view("shuffled", (1.5, 0.2))}, lax).verdict
    assert verdict.outcome == "no difference shown"
    assert "within the tolerance of 0.5" in verdict.sentence


def test_ranking_is_judged_on_the_least_biased_view() -> None:
    """Natural and shuffled say it helped; the grades, which count, say it harmed."""
    views = {
        "natural": make_view("natural", (0.2, 1.5)),
        "shuffled": make_view("shuffled", (0.2, 1.5)),
        "graded": make_view("graded", (1.5, 0.2)),
    }
    assert compare(views, QUICK).verdict.outcome == "harmed"
    few = views | {"graded": make_view("graded", (1.5, 0.2), groups=5)}
    verdict = compare(few, QUICK).verdict
    assert (verdict.view, verdict.outcome) == ("shuffled", "helped")
    verdict = compare({"natural": views["natural"]}, QUICK).verdict
    assert verdict.biased
    assert "biased by position" in verdict.sentence
    assert "clicks for each click seen" in (verdict.calibration or "")


def test_one_class_and_no_control_are_null_not_a_crash() -> None:
    view = make_view("shuffled", (0.2, 1.5), groups=20)
    no_click = ViewData("shuffled", view.weighted, view.control,
                        click=np.zeros(200), request=view.request)  # fmt: skip
    result = compare({"shuffled": no_click}, QUICK)
    assert result.metrics("weighted")["shuffled"]["ctr_auc"] is None
    assert result.verdict.outcome == "not compared"
    alone = ViewData("shuffled", view.weighted, None, click=view.click, request=view.request)
    result = compare({"shuffled": alone}, QUICK)
    assert result.metrics("weighted")["shuffled"]["ctr_auc"] is not None
    assert result.metrics("control")["shuffled"]["ctr_auc"] is None
    assert result.verdict.outcome == "not compared"


def test_json_round_trip() -> None:
    result = compare({"natural": make_view("natural", (0.2, 1.5), groups=30)}, QUICK)
    text = result.to_json()
    assert "NaN" not in text
    json.loads(text)
    assert Comparison.from_json(text) == result


def test_fewer_resamples_are_said() -> None:
    settings = BootstrapSettings(resamples=300, max_row_resamples=2_000 * 150)
    view = make_view("shuffled", (0.2, 1.5))
    result = compare({"shuffled": view}, EvaluationSettings(bootstrap=settings)).views["shuffled"]
    assert result.resamples == 150
    assert "150 resamples instead of 300" in result.notes[0]


def test_the_views_metrics_suit_the_view() -> None:
    """A shuffled page says nothing of calibration, a grade nothing of clicks."""
    names = {
        name: set(view_metrics(make_view(name, (1, 1), groups=3), QUICK))
        for name in ("natural", "shuffled", "graded")
    }
    assert {"ctr_calibration", "ctcvr_log_loss", "ctr_auc_pr", "ctr_gauc"} <= names["natural"]
    assert names["shuffled"] == {
        "ctr_auc", "ctr_gauc", "ctr_ndcg_at_10", "ctcvr_auc", "ctcvr_gauc", "ctcvr_ndcg_at_10",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "train"}, "view 'train' is unknown"),
        ({"request": None}, "needs the column 'request'"),
        ({"click": np.zeros(3)}, r"'click' of view 'shuffled' has shape \(3,\)"),
        ({"control": {"cvr": np.zeros(200)}}, r"no predictions \['ctcvr', 'ctr'\]"),
    ],
)
def test_bad_views_are_named(change: dict[str, object], message: str) -> None:
    view = make_view("shuffled", (1, 1), groups=20)
    good = {name: getattr(view, name) for name in view.__dataclass_fields__}
    with pytest.raises(DataError, match=message):
        ViewData(**(good | change))


def test_a_baseline_stands_beside_both_models_with_its_intervals() -> None:
    view = make_view("shuffled", (0.3, 0.9))
    other = make_view("shuffled", (0.6, 0.9))
    full = replace(view, baseline=other.weighted)
    auc = (
        compare({"shuffled": full}, QUICK, "last blessed model").views["shuffled"].metric("ctr_auc")
    )
    assert auc.baseline == pytest.approx(roc_auc_score(view.click, other.weighted["ctr"]))
    assert auc.versus_baseline == pytest.approx(auc.weighted - auc.baseline)
    for value, interval in (
        (auc.weighted, auc.weighted_interval),
        (auc.control, auc.control_interval),
        (auc.baseline, auc.baseline_interval),
        (auc.versus_baseline, auc.versus_baseline_interval),
    ):
        assert interval[0] < value < interval[1]
    # The difference of models on the same pages is surer than either of them.
    width = auc.versus_baseline_interval[1] - auc.versus_baseline_interval[0]
    assert width < auc.weighted_interval[1] - auc.weighted_interval[0]
    # That with the control is what it is without a third model.
    alone = compare({"shuffled": view}, QUICK).views["shuffled"].metric("ctr_auc")
    assert (auc.low, auc.high) == (alone.low, alone.high)
    constant = {name: np.full(view.rows, 0.2) for name in ("ctr", "ctcvr")}
    rate = compare({"shuffled": replace(view, baseline=constant)}, QUICK, "base rate")
    auc = rate.views["shuffled"].metric("ctr_auc")
    assert (auc.baseline, auc.versus_baseline_interval) == (0.5, None)
    assert rate.verdict.last is None


def test_means_over_users_draw_users_and_leave_out_who_is_not_known() -> None:
    view = make_view("natural", (0.3, 0.9), groups=120)
    user = np.array(
        [b"" if i % 5 == 0 else f"u{i // 40}".encode() for i in range(view.rows)], object
    )
    whole = compare({"natural": replace(view, user=user)}, QUICK).views["natural"]
    known = np.flatnonzero(user != b"")
    part = gauc(view.click[known], view.weighted["ctr"][known], user[known])
    metric = whole.metric("ctr_gauc_by_user")
    assert metric.weighted == pytest.approx(part.mean, abs=1e-12)
    assert metric.low < metric.difference < metric.high
    nobody = replace(view, user=np.full(view.rows, b"", object))
    assert "ctr_gauc_by_user" not in view_metrics(nobody, QUICK)


def test_an_unbiased_estimate_of_a_label_may_lie_outside_its_range() -> None:
    """Masses of 1 / propensity: the same as as many rows, negative ones taken away."""
    rng = np.random.default_rng(0)
    score, label = rng.random(300), (rng.random(300) < 0.3).astype(float)
    mass = label * rng.choice([1.0, 2.0, 4.0], 300)
    below = (score[None, :] < score[:, None]) + 0.5 * (score[None, :] == score[:, None])
    won = mass @ below @ (1 - mass)
    expected = won / (mass.sum() * (1 - mass).sum())
    assert Auc(mass, score, bounded=False).value(np.ones(300)) == pytest.approx(expected)
    with pytest.raises(DataError, match="expected \\[0, 1\\]"):
        Auc(mass, score)
