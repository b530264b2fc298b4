"""What AnomalyGate asks of a span."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from heft.logs.dates import as_span
from heft.settings import Settings

__all__ = ["GateSettings", "LabelBounds", "LeakSettings", "LogColumns", "ServingData"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Threshold = Annotated[float, Field(gt=0.0, le=1.0)]
Bounds = tuple[Annotated[float, Field(ge=0.0)], Annotated[float, Field(gt=0.0)]]


def _check_order(settings: Settings, *names: str) -> None:
    for name in names:
        bounds: Bounds | None = getattr(settings, name)
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"{name}: {list(bounds)} lets no span pass: lower first")


class LabelBounds(Settings):
    """How far clicks and conversions of a span may be from those of the last ones.

    Attributes:
        ratio: (lowest, highest) of CTR, and of CVR, over that of the last spans.
        chance: a difference that chance makes at least as often as this is none.
        positions: Jensen–Shannon divergence, in bits, of the positions of impressions, and of
            those of clicks.
        orphan_share: of clicks without an impression, at most.
        orphan_rise: of that share over the last spans, at most.
        ctr, cvr: (lowest, highest) that there may ever be; None for no such bounds.
    """

    ratio: Bounds = (0.67, 1.5)
    chance: float = Field(1e-4, gt=0, lt=0.5)
    positions: Threshold = 0.05
    orphan_share: Share = 0.2
    orphan_rise: Share = 0.05
    ctr: Bounds | None = None
    cvr: Bounds | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order(self, "ratio", "ctr", "cvr")
        return self


class LeakSettings(Settings):
    """When a column knows the label too well.

    Attributes:
        suspicious_auc: of one column alone with clicks or conversions; from here on it leaks.
        rows: of `train` that are looked at.
        minimum_positives: fewer clicks, or conversions, prove nothing.
    """

    suspicious_auc: float = Field(0.98, gt=0.5, le=1)
    rows: int = Field(50_000, ge=100)
    minimum_positives: int = Field(30, ge=2)


class ServingData(Settings):
    """What a model is asked, for the skew between training and serving.

    One of the two is given.

    Attributes:
        statistics: TFDV's statistics of it: a `.pb`, `.tfrecord` or `.pbtxt` file.
        log: requests, files by a pattern with `*`.
        format: of the log; `predictions` is TensorFlow Serving's request log, `examples` are
            tf.Examples, both in TFRecords.
        rows: of the log that are read.
    """

    statistics: str | None = None
    log: str | None = None
    format: Literal["auto", "jsonl", "csv", "parquet", "examples", "predictions"] = "auto"
    rows: int = Field(100_000, ge=1)

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.statistics is None) == (self.log is None):
            raise ValueError(
                f"statistics={self.statistics!r}, log={self.log!r}: expected one of them, a file "
                "of statistics or a log to compute them from"
            )
        return self


class GateSettings(Settings):
    """Everything AnomalyGate is told by a config.

    Attributes:
        drift_categories, drift_numbers: thresholds of the columns the model sees, L-infinity of
            a categorical one and Jensen–Shannon of a numeric one, where the schema has no
            comparator of its own; None leaves them unmeasured.
        drift_missing: difference in the share of rows without a value, of those columns.
        skew_categories, skew_numbers: as for drift, of training and serving.
        min_rows: on either side; fewer are not compared.
        spans: how many of the last that passed make what labels are compared with.
        since: spans before this one are not compared with; the span itself begins anew.
        labels, leaks, serving: see there.
        examples: shown of an anomaly.
    """

    drift_categories: Threshold | None = 0.3
    drift_numbers: Threshold | None = 0.3
    drift_missing: Threshold | None = 0.2
    skew_categories: Threshold | None = 0.3
    skew_numbers: Threshold | None = 0.3
    min_rows: int = Field(1_000, ge=1)
    spans: int = Field(5, ge=1, le=1_000)
    since: Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(as_span)] = None
    labels: LabelBounds = LabelBounds()
    leaks: LeakSettings = LeakSettings()
    serving: ServingData | None = None
    examples: int = Field(3, ge=0, le=20)


class LogColumns(Settings):
    """What the gate has to know of the log and of the model's columns.

    Attributes:
        categorical, numeric: further columns of the log.
        vectors: further columns, and how many numbers each has.
        history: the most titles that a row has of its user's history.
        pii: columns of persons, whose values are shown nowhere.
        names_spans: whether the paths of the log name a span.
        window: spans that a run reads.
        seen_categorical, seen_numeric, seen_vectors: columns that the model sees.
        reviewed: whether the schema is one from git, not one inferred from the same data.
    """

    categorical: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    vectors: dict[str, int] = Field(default_factory=dict)
    history: int = 0
    pii: tuple[str, ...] = ()
    names_spans: bool = True
    window: int = 1
    seen_categorical: tuple[str, ...] = ()
    seen_numeric: tuple[str, ...] = ()
    seen_vectors: tuple[str, ...] = ()
    reviewed: bool = True
