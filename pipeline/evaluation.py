"""What the Evaluator (TFMA) measures on natural data, and what it asks of a model."""

from google.protobuf import text_format
from tensorflow_model_analysis.proto import config_pb2

from heft import features as f
from pipeline.config import Thresholds

__all__ = ["eval_config"]

_METRICS = ("AUC", "AUCPrecisionRecall", "BinaryCrossEntropy", "Calibration")


def eval_config(thresholds: Thresholds, slices: tuple[str, ...]) -> config_pb2.EvalConfig:
    """Metrics of both tasks, overall and by slice; thresholds on clicks overall.

    A first model is judged by the value thresholds alone; a later one also
    against the last blessed model.

    Args:
        thresholds: see `Thresholds`.
        slices: string columns of the logged examples.
    """
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
    # No min_slice_size: TFMA takes a slice it leaves out for a threshold it could
    # not check, and withholds the blessing.
    return config_pb2.EvalConfig(
        model_specs=[spec, baseline],
        slicing_specs=slicing,
        metrics_specs=[_count(), _clicks(thresholds), _conversions()],
    )


def _count() -> config_pb2.MetricsSpec:
    return config_pb2.MetricsSpec(
        metrics=[config_pb2.MetricConfig(class_name="ExampleCount")], output_names=[f.CTR]
    )


def _clicks(thresholds: Thresholds) -> config_pb2.MetricsSpec:
    low, high = thresholds.calibration
    limits = {
        "AUC": f"""
            value_threshold {{ lower_bound {{ value: {thresholds.minimum_ctr_auc} }} }}
            change_threshold {{
              absolute {{ value: {-thresholds.maximum_auc_loss} }}
              direction: HIGHER_IS_BETTER
            }}""",
        "Calibration": f"""
            value_threshold {{
              lower_bound {{ value: {low} }}
              upper_bound {{ value: {high} }}
            }}""",
    }
    metrics = []
    for name in _METRICS:
        metric = config_pb2.MetricConfig(class_name=name)
        if name in limits:
            # Of all impressions together: a plain threshold would bind every slice.
            overall = metric.per_slice_thresholds.add()
            overall.slicing_specs.add()
            text_format.Parse(limits[name], overall.threshold)
        metrics.append(metric)
    return config_pb2.MetricsSpec(metrics=metrics, output_names=[f.CTR])


def _conversions() -> config_pb2.MetricsSpec:
    metrics = [config_pb2.MetricConfig(class_name=name) for name in _METRICS]
    return config_pb2.MetricsSpec(metrics=metrics, output_names=[f.CTCVR])
