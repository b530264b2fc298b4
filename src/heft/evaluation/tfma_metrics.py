"""Metrics for TFMA: those it lacks, and exact ones in place of its binned ones.

TFMA knows neither GAUC nor ECE, its NDCG takes a whole page into a slice that holds
one of its rows, and its AUC is that of 10,000 bins. These are metrics of TFMA's kind,
named in an EvalConfig by class and module, computed for each slice from the rows of
`heft.evaluation.tfma_rows`, and equal to those of `heft.evaluation.metrics` and
`heft.evaluation.grouped`.

Each comes with an interval, from a delete-a-group jackknife (Kott 2001) over 20
groups of whole requests (users, where the metric is by user), because TFMA's own
intervals take the rows of one page for independent. Against a baseline model the
groups left out are the same, so that the difference has a paired interval.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeAlias

from tensorflow_model_analysis.metrics import metric_types
from tensorflow_model_analysis.proto import config_pb2

from heft.evaluation.grouped import gauc, ndcg_at_k
from heft.evaluation.metrics import Auc, AucPr, Calibration, Ece, FloatArray, LogLoss, Metric
from heft.evaluation.tfma_intervals import Jackknife, PutBound, PutInterval, replicates_key
from heft.evaluation.tfma_rows import MAX_ROWS, ROWS_KEY, SliceRows, row_computation

__all__ = [
    "HeftAuc", "HeftAucPr", "HeftBound", "HeftCalibration", "HeftEce", "HeftExampleCount",
    "HeftGauc", "HeftGaucByUser", "HeftLogLoss", "HeftNdcg",
]  # fmt: skip

Key: TypeAlias = metric_types.MetricKey
Values = dict[Key, Any]


class _Estimated(metric_types.Metric):
    """A metric of one output's predictions, with its interval.

    Args:
        name: of the metric in the results.
        max_rows: rows that a slice is computed from at most, whole requests.
        options: of the metric itself.

    Attributes:
        by_user: groups are users and not requests, in the metric and in the jackknife.
        build: the metric over rows, waiting for their weights: of labels, scores and groups of
            shape (rows,), and the options.
    """

    by_user = False
    build: ClassVar[Callable[..., Metric]]

    def __init__(self, name: str, max_rows: int = MAX_ROWS, **options: Any) -> None:
        super().__init__(self._computed, name=name, max_rows=max_rows, **options)

    def _computed(
        self,
        name: str,
        max_rows: int = MAX_ROWS,
        eval_config: config_pb2.EvalConfig | None = None,
        model_names: list[str] | None = None,
        output_names: list[str] | None = None,
        **options: Any,
    ) -> metric_types.MetricComputations:
        config = eval_config or config_pb2.EvalConfig()
        keys = _keys(name, model_names, output_names)
        computations: list[Any] = [row_computation(config, max_rows)]
        build = partial(self.build, **options)
        for key in keys:
            jackknife = Jackknife(key, build, self.by_user)
            computations += [
                metric_types.DerivedMetricComputation([replicates_key(key)], jackknife.replicates),
                metric_types.DerivedMetricComputation([key], jackknife.point),
            ]
        baseline = next((spec.name for spec in config.model_specs if spec.is_baseline), None)
        computations += [
            metric_types.CIDerivedMetricComputation([key], PutInterval(key, baseline).result)
            for key in keys
        ]
        return computations


class HeftAuc(_Estimated):
    """Area under the ROC curve; see `heft.evaluation.auc`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.metrics.Auc`."""
        return Auc(label, score)


class HeftAucPr(_Estimated):
    """Average precision; see `heft.evaluation.auc_pr`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.metrics.AucPr`."""
        return AucPr(label, score)


class HeftLogLoss(_Estimated):
    """Mean cross-entropy in nats; see `heft.evaluation.log_loss`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.metrics.LogLoss`."""
        return LogLoss(label, score)


class HeftCalibration(_Estimated):
    """Predicted over observed positives; see `heft.evaluation.calibration`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.metrics.Calibration`."""
        return Calibration(label, score)


class HeftEce(_Estimated):
    """Expected calibration error over `bins` bins of equal mass; see `heft.evaluation.ece`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.metrics.Ece`; the option is `bins`."""
        return Ece(label, score, options.get("bins", 20))


class HeftGauc(_Estimated):
    """AUC within a request, averaged by its rows; see `heft.evaluation.gauc`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.grouped.gauc`."""
        return gauc(label, score, group)


class HeftGaucByUser(HeftGauc):
    """AUC within a user, averaged by rows; rows without a user are left out."""

    by_user = True


class HeftNdcg(_Estimated):
    """NDCG@`k` by request, a positive label a gain of 1; see `heft.evaluation.ndcg_at_k`."""

    @staticmethod
    def build(label: FloatArray, score: FloatArray, group: Any, **options: Any) -> Metric:
        """See `heft.evaluation.grouped.ndcg_at_k`; the option is `k`."""
        return ndcg_at_k(label, score, group, options.get("k", 10))


class HeftBound(metric_types.Metric):
    """The least or the most another metric may be, by its interval: for thresholds on slices.

    A slice of few rows is far from its truth by luck alone. A lower threshold on the
    most it may be, and an upper one on the least, hold back only what is surely past them.
    Where there is no interval nothing is sure: -infinity or infinity.

    Args:
        name: of the bound in the results.
        of: name of a metric above among the same outputs' metrics.
        metric: its class name, with its `options`.
        side: "least" or "most".
        confidence: of the one side, in (0.5, 1).
    """

    def __init__(
        self, name: str, of: str, metric: str, side: str, confidence: float = 0.995, **options: Any
    ) -> None:
        super().__init__(
            self._computed,
            name=name,
            of=of,
            metric=metric,
            side=side,
            confidence=confidence,
            **options,
        )

    def _computed(
        self,
        name: str,
        of: str,
        metric: str,
        side: str,
        confidence: float,
        eval_config: config_pb2.EvalConfig | None = None,
        model_names: list[str] | None = None,
        output_names: list[str] | None = None,
        **options: Any,
    ) -> metric_types.MetricComputations:
        whose: _Estimated = globals()[metric](of, **options)
        computations = whose.computations(eval_config, None, model_names, output_names)
        computations += [
            metric_types.DerivedMetricComputation(
                [key], PutBound(key, of, side == "most", confidence).result
            )
            for key in _keys(name, model_names, output_names)
        ]
        return computations


class HeftExampleCount(metric_types.Metric):
    """Rows of the slice, and the rows that its metrics are from, `..._used`.

    Args:
        name: in the results.
        max_rows: as of the other metrics.
        source: a digest of the code, for TFX, which knows an Evaluator by its config alone.
    """

    def __init__(self, name: str, max_rows: int = MAX_ROWS, source: str = "") -> None:
        super().__init__(self._computed, name=name, max_rows=max_rows, source=source)

    def _computed(
        self,
        name: str,
        max_rows: int,
        source: str,
        eval_config: config_pb2.EvalConfig | None = None,
        model_names: list[str] | None = None,
        output_names: list[str] | None = None,
    ) -> metric_types.MetricComputations:
        keys = _keys(name, model_names, output_names)
        used = [key._replace(name=f"{name}_used") for key in keys]

        def counts(values: Values) -> Values:
            rows: SliceRows = values[ROWS_KEY]
            return dict.fromkeys(keys, rows.count) | dict.fromkeys(used, len(rows.packed))

        config = eval_config or config_pb2.EvalConfig()
        counted = metric_types.DerivedMetricComputation(keys + used, counts)
        return [row_computation(config, max_rows), counted]


def _keys(name: str, models: list[str] | None, outputs: list[str] | None) -> list[Key]:
    return [
        Key(name, model_name=model, output_name=output)
        for model in models or [""]
        for output in outputs or [""]
    ]
