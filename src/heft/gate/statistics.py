"""TensorFlow Data Validation's statistics, as far as the gate reads them."""

from dataclasses import dataclass
from typing import TypeAlias

import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from heft.tfdv import tfdv

__all__ = [
    "STATISTICS_FILE", "Column", "Statistics", "columns_of", "load_statistics", "rows_of",
    "validated",
]  # fmt: skip

STATISTICS_FILE = "FeatureStats.pb"

Statistics: TypeAlias = statistics_pb2.DatasetFeatureStatisticsList
_Feature = statistics_pb2.FeatureNameStatistics


@dataclass(frozen=True)
class Column:
    """One column's statistics.

    Attributes:
        type: INT, FLOAT, BYTES or STRING.
        rows: of the split.
        there: rows with a value.
        least, most: values of a row.
        low, high: of numbers, their range.
        median: of numbers.
        shares: of texts, the share of the most common ones, by text.
    """

    type: str = ""
    rows: int = 0
    there: int = 0
    least: int = 0
    most: int = 0
    low: float = 0.0
    high: float = 0.0
    median: float = 0.0
    shares: dict[str, float] | None = None

    @property
    def absent(self) -> int:
        """Rows without a value."""
        return self.rows - self.there


def load_statistics(uri: str) -> dict[str, Statistics]:
    """By split, as StatisticsGen writes them below `uri`."""
    found = {}
    for path in sorted(tf.io.gfile.glob(f"{uri}/Split-*/{STATISTICS_FILE}")):
        with tf.io.gfile.GFile(path, "rb") as file:
            split = path.rsplit("/", 2)[1].removeprefix("Split-")
            found[split] = Statistics.FromString(file.read())
    return found


def rows_of(statistics: Statistics | None) -> int:
    """Rows that statistics are of; 0 of none."""
    if statistics is None or not statistics.datasets:
        return 0
    return int(statistics.datasets[0].num_examples)


def columns_of(statistics: Statistics) -> dict[str, Column]:
    """Every column of the whole data set, by name."""
    rows = rows_of(statistics)
    return {".".join(x.path.step) or x.name: _column(x, rows) for x in _features(statistics)}


def _features(statistics: Statistics) -> list[statistics_pb2.FeatureNameStatistics]:
    return list(statistics.datasets[0].features) if statistics.datasets else []


def _column(feature: statistics_pb2.FeatureNameStatistics, rows: int) -> Column:
    kind = _Feature.Type.Name(feature.type)
    if feature.HasField("num_stats"):
        numbers = feature.num_stats
        common = numbers.common_stats
        found = Column(kind, low=numbers.min, high=numbers.max, median=numbers.median)
    elif feature.HasField("string_stats"):
        texts = feature.string_stats
        common = texts.common_stats
        buckets = texts.rank_histogram.buckets
        total = common.tot_num_values or sum(bucket.sample_count for bucket in buckets)
        shares = {bucket.label: bucket.sample_count / total for bucket in buckets} if total else {}
        found = Column(kind, shares=shares)
    else:
        common = feature.bytes_stats.common_stats
        found = Column(kind)
    return Column(
        **{**vars(found), "rows": rows, "there": int(common.num_non_missing),
           "least": int(common.min_num_values), "most": int(common.max_num_values)}
    )  # fmt: skip


def validated(
    observed: Statistics,
    schema: schema_pb2.Schema,
    previous: Statistics | None = None,
    serving: Statistics | None = None,
) -> anomalies_pb2.Anomalies:
    """`tfdv.validate_statistics`; drift and skew of the features that have comparators."""
    return tfdv.validate_statistics(
        observed, schema, previous_statistics=previous, serving_statistics=serving
    )
