"""What the Evaluator asks of a model, judged by TFMA's own validator."""

import pytest
from tensorflow_model_analysis.evaluators.metrics_validator import validate_metrics
from tensorflow_model_analysis.metrics import metric_specs
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.proto import config_pb2
from tensorflow_model_analysis.utils import config_util

from pipeline.config import Thresholds
from pipeline.evaluation import eval_config

GOOD = {
    "auc": 0.7, "auc_pr": 0.3, "log_loss": 0.4, "calibration": 1.02, "ece": 0.02,
    "auc_at_most": 0.75, "calibration_at_least": 0.9, "calibration_at_most": 1.2,
}  # fmt: skip
THRESHOLDS = Thresholds(minimum_ctr_auc=0.6, calibration=(0.8, 1.25), maximum_auc_loss=0.01)
OVERALL = ()
PHONES = (("device", "phone"),)


def _as_tfx_runs_it(*, first: bool) -> config_pb2.EvalConfig:
    return config_util.update_eval_config_with_defaults(
        eval_config(THRESHOLDS, ("device",)), has_baseline=not first, rubber_stamp=True
    )


def _ok(
    overall: dict[str, float],
    phones: dict[str, float] | None = None,
    *,
    auc_change: float | None = None,
) -> bool:
    """Whether TFMA lets a candidate through; a first one where nothing is said of a change."""
    first = auc_change is None
    config = _as_tfx_runs_it(first=first)
    name = "" if first else "candidate"  # TFMA leaves the name of an only model out
    ok = True
    for slice_key, values in ((OVERALL, GOOD | overall), (PHONES, GOOD | (phones or {}))):
        metrics = {}
        for head in ("ctr", "ctcvr"):
            for metric, value in values.items():
                key = MetricKey(metric, model_name=name, output_name=head)
                metrics[key] = value
                if not first:
                    change = auc_change if metric == "auc" else 0.0
                    metrics[key.make_diff_key()] = change
        metrics[MetricKey("example_count", model_name=name, output_name="ctr")] = 1_000
        ok &= validate_metrics((slice_key, metrics), config).validation_ok
    return ok


@pytest.mark.parametrize("first", [True, False])
def test_the_config_is_one_tfma_accepts(first: bool) -> None:
    config = _as_tfx_runs_it(first=first)
    config_util.verify_eval_config(config)
    assert len(config.model_specs) == (1 if first else 2)
    assert [list(spec.feature_keys) for spec in config.slicing_specs] == [[], ["device"]]
    # Without thresholds TFX would not judge at all.
    assert metric_specs.metric_thresholds_from_metrics_specs(
        config.metrics_specs, eval_config=config
    )


def test_both_heads_are_judged_on_their_own_label_by_name_of_the_model_output() -> None:
    for spec in eval_config(THRESHOLDS, ()).model_specs:
        assert spec.signature_name == "examples"
        assert dict(spec.prediction_keys) == {"ctr": "ctr", "ctcvr": "ctcvr"}
        assert dict(spec.label_keys) == {"ctr": "click", "ctcvr": "conversion"}
        assert spec.model_type == ""  # a Keras 3 export is no tf_keras model


def test_a_good_first_model_passes() -> None:
    assert _ok({})


@pytest.mark.parametrize(
    ("bad", "fair"),
    [({"auc": 0.59}, {"auc": 0.61}), ({"calibration": 0.79}, {"calibration": 0.81}),
     ({"calibration": 1.26}, {"calibration": 1.24}), ({"ece": 0.11}, {"ece": 0.09})],
)  # fmt: skip
def test_a_model_past_a_threshold_is_stopped(bad: dict[str, float], fair: dict[str, float]) -> None:
    assert not _ok(bad)
    assert _ok(fair)


def test_a_slice_past_a_threshold_does_not_stop_the_model_by_luck() -> None:
    assert _ok({}, {"auc": 0.4, "calibration": 4.0, "ece": 0.5})


@pytest.mark.parametrize(
    ("bad", "fair"),
    [({"auc_at_most": 0.49}, {"auc_at_most": 0.51}),
     ({"calibration_at_most": 0.32}, {"calibration_at_most": 0.34}),
     ({"calibration_at_least": 3.1}, {"calibration_at_least": 2.9})],
)  # fmt: skip
def test_a_slice_that_is_surely_past_a_threshold_stops_it(
    bad: dict[str, float], fair: dict[str, float]
) -> None:
    assert not _ok({}, bad)
    assert _ok({}, fair)
    assert _ok(bad), "of all rows together the plain thresholds hold"


def test_the_metrics_code_is_part_of_what_tfx_knows_an_evaluator_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = eval_config(THRESHOLDS, ()).SerializeToString(deterministic=True)
    monkeypatch.setattr("pipeline.evaluation.source_digest", lambda *_: "another")
    assert eval_config(THRESHOLDS, ()).SerializeToString(deterministic=True) != before


def test_a_later_model_may_lose_no_more_than_asked_against_the_last_blessed() -> None:
    assert _ok({}, auc_change=-0.009)
    assert _ok({}, auc_change=0.05)
    assert not _ok({}, auc_change=-0.011)
