"""What the Evaluator (TFMA) measures on natural data, and what it asks of a model."""

import json
from collections.abc import Sequence
from typing import Any

from tensorflow_model_analysis.proto import config_pb2

from heft import features as f
from heft.evaluation import EvaluationSettings
from pipeline.digest import source_digest
from pipeline.thresholds import Thresholds

__all__ = ["eval_config"]

_METRICS = "heft.evaluation.tfma_metrics"
_PLOT = "heft.evaluation.tfma_plot"


def eval_config(
    thresholds: Thresholds, slices: Sequence[str], settings: EvaluationSettings | None = None
) -> config_pb2.EvalConfig:
    """Metrics of both tasks, overall and by slice, with intervals; thresholds on clicks.

    A first model is judged by the value thresholds alone; a later one also
    against the last blessed model.

    Args:
        thresholds: see `Thresholds`.
        slices: string columns of the examples.
        settings: bins of ECE and ranks of NDCG.
    """
    settings = settings or EvaluationSettings()
    heads = {f.CTR: f.CLICK, f.CTCVR: f.CONVERSION}
    spec = config_pb2.ModelSpec(
        signature_name="examples",
        prediction_keys={head: head for head in heads},
        label_keys=heads,
    )
    baseline = config_pb2.ModelSpec()
    baseline.CopyFrom(spec)
    spec.name, baseline.name, baseline.is_baseline = "candidate", "baseline", True
    slicing = [config_pb2.SlicingSpec()]
    slicing += [config_pb2.SlicingSpec(feature_keys=[name]) for name in slices]
    options = {"bins": settings.bins, "k": settings.ndcg_at}
    # No min_slice_size: TFMA takes a slice it leaves out for a threshold it could
    # not check, and withholds the blessing.
    return config_pb2.EvalConfig(
        model_specs=[spec, baseline],
        slicing_specs=slicing,
        metrics_specs=[
            _count(),
            *(_task(head, thresholds, slicing[1:], options) for head in heads),
        ],
    )


def _count() -> config_pb2.MetricsSpec:
    # TFX knows an Evaluator by its config alone: the code of the metrics has to be in it.
    digest = source_digest(_METRICS, _PLOT)
    count = _metric("HeftExampleCount", "example_count", source=digest)
    return config_pb2.MetricsSpec(metrics=[count], output_names=[f.CTR])


def _task(
    head: str,
    thresholds: Thresholds,
    slices: Sequence[config_pb2.SlicingSpec],
    options: dict[str, int],
) -> config_pb2.MetricsSpec:
    metrics = {
        "auc": _metric("HeftAuc", "auc"),
        "auc_pr": _metric("HeftAucPr", "auc_pr"),
        "log_loss": _metric("HeftLogLoss", "log_loss"),
        "calibration": _metric("HeftCalibration", "calibration"),
        "ece": _metric("HeftEce", "ece", bins=options["bins"]),
        "gauc": _metric("HeftGauc", "gauc"),
        "gauc_by_user": _metric("HeftGaucByUser", "gauc_by_user"),
        "ndcg": _metric("HeftNdcg", f"ndcg_at_{options['k']}", k=options["k"]),
        "plot": _metric("HeftCalibrationPlot", "calibration_plot", module=_PLOT),
    }
    if head == f.CTR:
        metrics |= _bounds()
        _ask(metrics, thresholds, slices)
    return config_pb2.MetricsSpec(metrics=list(metrics.values()), output_names=[head])


def _bounds() -> dict[str, config_pb2.MetricConfig]:
    """The ends of intervals that thresholds on slices look at."""
    ends = (
        ("auc", "HeftAuc", "most"),
        ("calibration", "HeftCalibration", "least"),
        ("calibration", "HeftCalibration", "most"),
    )
    return {
        f"{of}_at_{side}": _metric("HeftBound", f"{of}_at_{side}", of=of, metric=metric, side=side)
        for of, metric, side in ends
    }


def _ask(
    metrics: dict[str, config_pb2.MetricConfig],
    thresholds: Thresholds,
    slices: Sequence[config_pb2.SlicingSpec],
) -> None:
    """Puts thresholds on metrics: of all impressions together, and on what is sure of a slice."""
    low, high = thresholds.calibration
    whole = [config_pb2.SlicingSpec()]
    auc = _between(thresholds.minimum_ctr_auc, None)
    auc.change_threshold.absolute.value = -thresholds.maximum_auc_loss
    auc.change_threshold.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
    _put(metrics["auc"], whole, auc)
    _put(metrics["calibration"], whole, _between(low, high))
    _put(metrics["ece"], whole, _between(None, thresholds.maximum_ctr_ece))
    if not slices:
        return
    low, high = thresholds.slice_calibration
    _put(metrics["auc_at_most"], slices, _between(thresholds.minimum_slice_auc, None))
    _put(metrics["calibration_at_most"], slices, _between(low, None))
    _put(metrics["calibration_at_least"], slices, _between(None, high))


def _put(
    metric: config_pb2.MetricConfig,
    slices: Sequence[config_pb2.SlicingSpec],
    threshold: config_pb2.MetricThreshold,
) -> None:
    # A plain threshold would bind every slice.
    metric.per_slice_thresholds.add(slicing_specs=slices, threshold=threshold)


def _between(low: float | None, high: float | None) -> config_pb2.MetricThreshold:
    threshold = config_pb2.MetricThreshold()
    if low is not None:
        threshold.value_threshold.lower_bound.value = low
    if high is not None:
        threshold.value_threshold.upper_bound.value = high
    return threshold


def _metric(
    class_name: str, name: str, module: str = _METRICS, **options: Any
) -> config_pb2.MetricConfig:
    config = json.dumps({"name": name, **options})
    return config_pb2.MetricConfig(class_name=class_name, module=module, config=config)
