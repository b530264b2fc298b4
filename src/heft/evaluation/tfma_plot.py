"""The calibration plot, from the rows that Heft's metrics share."""

import numpy as np
from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2

from heft.evaluation.tfma_rows import MAX_ROWS, ROWS_KEY, SliceRows, row_computation

__all__ = ["HeftCalibrationPlot"]


class HeftCalibrationPlot(metric_types.Metric):
    """Rows, predictions and positives by prediction, as TFMA's CalibrationPlot.

    Args:
        name: of the plot.
        num_buckets: of equal width between 0 and 1.
        max_rows: as of Heft's metrics.
    """

    def __init__(
        self, name: str = "calibration_plot", num_buckets: int = 100, max_rows: int = MAX_ROWS
    ) -> None:
        super().__init__(self._computed, name=name, num_buckets=num_buckets, max_rows=max_rows)

    def _computed(
        self,
        name: str,
        num_buckets: int,
        max_rows: int,
        eval_config: config_pb2.EvalConfig | None = None,
        model_names: list[str] | None = None,
        output_names: list[str] | None = None,
    ) -> metric_types.MetricComputations:
        keys = [
            metric_types.PlotKey(name, model_name=model, output_name=output)
            for model in model_names or [""]
            for output in output_names or [""]
        ]

        def drawn(values: dict[metric_types.MetricKey, object]) -> dict[object, object]:
            rows = values[ROWS_KEY]
            assert isinstance(rows, SliceRows)
            return {key: _buckets(rows, key, num_buckets) for key in keys}

        config = eval_config or config_pb2.EvalConfig()
        return [
            row_computation(config, max_rows),
            metric_types.DerivedMetricComputation(keys, drawn),
        ]


def _buckets(
    rows: SliceRows, key: metric_types.PlotKey, count: int
) -> metrics_for_slice_pb2.CalibrationHistogramBuckets:
    label = rows.label(key.output_name)
    score = rows.prediction(key.model_name, key.output_name)
    place = np.minimum((score * count).astype(np.int64), count - 1)
    sums = [np.bincount(place, weight, count) for weight in (None, score, label)]
    found = metrics_for_slice_pb2.CalibrationHistogramBuckets()
    for bucket, (size, predicted, positives) in enumerate(zip(*sums, strict=True)):
        found.buckets.add(
            lower_threshold_inclusive=bucket / count,
            upper_threshold_exclusive=(bucket + 1) / count,
            num_weighted_examples={"value": float(size)},
            total_weighted_refined_prediction={"value": float(predicted)},
            total_weighted_label={"value": float(positives)},
        )
    return found
