"""Models that must not ship, each held back by the gate that is there for it; a good one is not.

The Evaluator's part is TFMA's own pipeline and validator on predictions, the judge's `compare`.
"""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tensorflow_model_analysis.api import model_eval_lib

from heft import features as f
from heft.evaluation import (
    BootstrapSettings,
    EvaluationSettings,
    FairnessSettings,
    Verdict,
    ViewData,
    compare,
)
from heft.evaluation.comparison import LAST_BLESSED
from heft.evaluation.judging import ClickLine
from heft.evaluation.views import REWEIGHTED
from heft.report.thresholds import failed_thresholds
from pipeline.config import Thresholds
from pipeline.evaluation import eval_config
from tests.unit.evaluation.tfma_runs import evaluated, rows

QUICK = EvaluationSettings(
    bootstrap=BootstrapSettings(resamples=100), slice_resamples=20, min_slice_rows=50
)
THRESHOLDS = Thresholds(minimum_ctr_auc=0.6, calibration=(0.8, 1.25), slice_calibration=(0.5, 2.0))

Columns = dict[str, np.ndarray]


def _refusals(columns: Columns, folder: Path, *, baseline: bool = False) -> set[tuple[str, str]]:
    """(slice, metric) of every threshold that TFMA says is not met."""
    config = eval_config(THRESHOLDS, ("device",))
    output = evaluated(columns, config, folder, baseline=baseline)
    result = model_eval_lib.load_validation_result(str(output))
    assert not result.missing_thresholds and not result.missing_slices
    found = {
        (
            "".join(key.bytes_value.decode() for key in part.slice_key.single_slice_keys),
            failure.metric_key.name,
        )
        for part in result.metric_validations_per_slice
        for failure in part.failures
    }
    assert result.validation_ok == (not found)
    return found


def _logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype(np.float64), 1e-3, 1 - 1e-3)
    return np.log(p / (1 - p))


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("baseline", [False, True])
def test_a_good_model_is_not_held_back(tmp_path: Path, baseline: bool) -> None:
    assert _refusals(rows(), tmp_path, baseline=baseline) == set()


def test_a_model_that_fails_one_slice(tmp_path: Path) -> None:
    """A tenth of the rows is ranked upside down; all together it looks well."""
    columns = rows(4_000)
    tv = np.random.default_rng(1).random(4_000) < 0.1
    columns["device"] = np.where(tv, b"tv", columns["device"]).astype(object)
    ctr = columns["candidate_ctr"]
    mean = _logit(ctr).mean()
    columns["candidate_ctr"] = np.where(tv, _sigmoid(2 * mean - _logit(ctr)), ctr).astype("f4")
    assert _refusals(columns, tmp_path) == {("tv", "auc_at_most")}
    [reason] = failed_thresholds(str(tmp_path / "evaluation"))
    said = re.fullmatch(
        r"Evaluator: Click AUC on device=tv is surely at most (0\.\d{4}); expected at least 0\.5\.",
        reason,
    )
    assert said and float(said[1]) < 0.5


def test_a_small_unlucky_slice_holds_nothing_back(tmp_path: Path) -> None:
    columns = rows()
    device = columns["device"].copy()
    clicks = np.flatnonzero(columns[f.CLICK])[:4]
    device[clicks] = b"toaster"
    device[np.flatnonzero(columns[f.CLICK] == 0)[:6]] = b"toaster"
    columns["candidate_ctr"][clicks] = 0.01
    assert _refusals(columns | {"device": device}, tmp_path) == set()


def test_a_model_that_promises_too_much(tmp_path: Path) -> None:
    columns = rows()
    columns["candidate_ctr"] = np.clip(1.5 * columns["candidate_ctr"], 0, 1).astype("f4")
    assert ("", "calibration") in _refusals(columns, tmp_path)
    reasons = failed_thresholds(str(tmp_path / "evaluation"))
    assert any(
        re.fullmatch(
            r"Evaluator: Click calibration on all impressions is .*0\.8 to 1\.25\.", reason
        )
        for reason in reasons
    )


def test_a_model_that_is_right_on_average_and_too_sure(tmp_path: Path) -> None:
    columns = rows()
    steep = 4 * _logit(columns["candidate_ctr"])
    shift = min(np.linspace(-5, 5, 400), key=lambda s: abs(_sigmoid(steep + s).mean()
                - columns[f.CLICK].mean()))  # fmt: skip
    columns["candidate_ctr"] = _sigmoid(steep + shift).astype("f4")
    assert _refusals(columns, tmp_path) == {("", "ece")}


def test_a_model_that_is_worse_than_the_last_blessed(tmp_path: Path) -> None:
    columns = rows()
    worse = columns | {
        "candidate_ctr": columns["baseline_ctr"],
        "baseline_ctr": columns["candidate_ctr"],
    }
    later = _refusals(worse, tmp_path / "later", baseline=True)
    assert later - _refusals(worse, tmp_path / "first") == {("", "auc")}
    reasons = failed_thresholds(str(tmp_path / "later" / "evaluation"))
    assert any(
        re.search(r"AUC on all impressions changed by −0\.\d+ against the last blessed", reason)
        and reason.endswith("expected a loss of at most 0.01.")
        for reason in reasons
    )


def _judged(
    weighted: np.ndarray,
    control: np.ndarray,
    columns: Columns,
    *,
    view: str = f.NATURAL,
    last: np.ndarray | None = None,
    settings: EvaluationSettings = QUICK,
) -> Verdict:
    def heads(ctr: np.ndarray) -> Columns:
        return {f.CTR: ctr}

    data = ViewData(
        view,
        heads(weighted),
        heads(control),
        click=columns[f.CLICK],
        request=columns[f.REQUEST_ID],
        baseline=None if last is None else heads(last),
        slices={"device": columns["device"]},
    )
    return compare({view: data}, settings, LAST_BLESSED if last is not None else None).verdict


def test_a_model_that_ranks_worse_than_the_last_on_shuffled_pages() -> None:
    columns = rows()
    good, bad = columns["candidate_ctr"], columns["baseline_ctr"]
    verdict = _judged(bad, bad, columns, view=f.SHUFFLED, last=good)
    assert verdict.outcome == "no difference shown"
    [objection] = verdict.objections
    assert objection.startswith("Worse than the last blessed model: on pages whose order was")
    better = _judged(good, bad, columns, view=f.SHUFFLED, last=bad)
    assert better.objections == () and better.last.startswith("Better than the last")


def test_labels_among_the_features_are_flagged() -> None:
    columns = rows()
    leaked = np.clip(0.9 * columns[f.CLICK] + 0.1 * columns["candidate_ctr"], 0, 1)
    verdict = _judged(leaked, columns["candidate_ctr"], columns)
    assert any("known only after the click" in line for line in verdict.objections)
    # On the same rows an honest model raises no suspicion.
    honest = _judged(columns["candidate_ctr"], columns["baseline_ctr"], columns)
    assert honest.objections == ()


def test_a_gap_between_groups_past_its_limit() -> None:
    columns = rows()
    fair, phone = columns["candidate_ctr"], columns["device"] == b"phone"
    unfair = np.clip(np.where(phone, fair, 2 * fair), 0, 1)
    settings = QUICK.model_copy(
        update={
            "fairness": FairnessSettings(columns=("device",), maximum_calibration_gap=0.5),
            "calibration_tolerance": 1.0,
        }
    )
    assert _judged(fair, fair, columns, settings=settings).objections == ()
    objections = _judged(unfair, fair, columns, settings=settings).objections
    [objection] = [line for line in objections if line.startswith("Unfair")]
    assert "device=desktop" in objection and "device=phone" in objection


# Weights that hurt. A log in which people look at the top of a page and click what they like there;
# the true weights take that out, and shuffled and sharpened ones are noise.


def _log(pages: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    n = pages * 10
    features = rng.normal(size=(n, 12))
    attractive = _sigmoid(features @ np.linspace(1.5, 0, 12) - 1)
    # The ranker that was there before puts feature 0 on top, whatever it is worth.
    place = np.argsort(np.argsort(-features[:, 0].reshape(pages, 10), axis=1), axis=1).ravel()
    looked = 1 / (place + 1)
    return {
        "features": features,
        "looked": looked,
        "position": place + 1,
        "attractive": attractive,
        f.CLICK: (rng.random(n) < attractive * looked).astype(np.int64),
        f.REQUEST_ID: np.repeat([f"{seed}-{p}".encode() for p in range(pages)], 10).astype(object),
        "device": np.full(n, b"x", object),
    }


def _trained(log: Columns, positive: np.ndarray, negative: np.ndarray) -> LogisticRegression:
    """A model of weight pairs: each row is a positive and a negative."""
    twice = np.concatenate([log["features"], log["features"]])
    label = np.repeat([1, 0], len(positive))
    return LogisticRegression(C=1e3).fit(twice, label, np.concatenate([positive, negative]))


@pytest.fixture(scope="module")
def trained() -> dict[str, LogisticRegression]:
    log = _log(400, 0)
    click, looked = log[f.CLICK], log["looked"]
    right = (click / looked, np.maximum(1 - click / looked, 0))
    order = np.random.default_rng(3).permutation(len(click))
    # Sharpened: the few heaviest decide. Shuffled: whose they are is luck.
    wrong = np.random.default_rng(4).pareto(0.5, len(click))[order] ** 2
    return {
        "right": _trained(log, *right),
        "hurt": _trained(log, wrong * click, wrong * (1 - click)),
        "control": _trained(log, click, 1.0 - click),
    }


@pytest.mark.parametrize(
    ("weights", "outcome"),
    [("hurt", "harmed"), ("right", "helped"), ("control", "no difference shown")],
)
def test_weights_that_hurt_are_not_blessed_and_those_that_help_are(
    trained: dict[str, LogisticRegression], weights: str, outcome: str
) -> None:
    log = _log(600, 1)
    rng = np.random.default_rng(9)
    # Pages whose order was shuffled: who looks where no longer depends on the item.
    shown = rng.permuted(log["looked"].reshape(-1, 10), axis=1).ravel()
    log[f.CLICK] = (rng.random(len(shown)) < log["attractive"] * shown).astype(np.int64)
    weighted, control = (
        trained[name].predict_proba(log["features"])[:, 1] for name in (weights, "control")
    )
    settings = QUICK.model_copy(update={"calibration_tolerance": 1.0})
    verdict = _judged(weighted, control, log, view=f.SHUFFLED, settings=settings)
    assert verdict.outcome == outcome
    assert bool(verdict.objections) == (outcome == "harmed")
    if outcome == "harmed":
        assert verdict.objections[0] == verdict.sentence


def test_weights_that_spoil_calibration_are_not_blessed(
    trained: dict[str, LogisticRegression],
) -> None:
    """Ranking alone would have let them pass: it has no part in this view of the data."""
    log = _log(600, 2)
    control = trained["control"].predict_proba(log["features"])[:, 1]
    sharpened = _sigmoid(3 * _logit(control))
    verdict = _judged(sharpened, control, log)
    assert verdict.outcome == "no difference shown"
    [objection] = verdict.objections
    assert objection.startswith("Weighting harmed calibration: on natural pages")


def test_without_shuffled_pages_clicks_are_counted_by_inverse_propensity(
    trained: dict[str, LogisticRegression],
) -> None:
    """Natural clicks favour the old ranking; with looking taken out, the truth wins."""
    log = _log(3_000, 5)
    right, control = (
        {f.CTR: trained[name].predict_proba(log["features"])[:, 1]} for name in ("right", "control")
    )
    common = {"click": log[f.CLICK], "request": log[f.REQUEST_ID]}
    natural = ViewData(f.NATURAL, right, control, **common)
    lines = ClickLine(tuple(1 / np.arange(1, 11)))
    mass = lines.mass(log[f.CLICK], log["position"], floor=0.05)
    # Unbiased: its mean is the attractiveness, wherever the item stood.
    for place in (1, 5, 10):
        at = log["position"] == place
        expected = log["attractive"][at].mean()
        assert mass[at].mean() == pytest.approx(expected, abs=4 * mass[at].std() / at.sum() ** 0.5)
    reweighted = ViewData(REWEIGHTED, right, control, mass=mass, **common)
    result = compare({f.NATURAL: natural, REWEIGHTED: reweighted}, QUICK)
    assert result.views[f.NATURAL].metric("ctr_auc").difference < 0
    assert (result.verdict.view, result.verdict.outcome) == (REWEIGHTED, "helped")
    assert not result.verdict.biased
