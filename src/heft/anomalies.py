"""Data that is not what the schema says stops the run."""

from collections.abc import Mapping
from dataclasses import dataclass

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from heft.errors import GateError
from heft.tfdv import tfdv

__all__ = ["Anomaly", "check", "find_anomalies"]


@dataclass(frozen=True)
class Anomaly:
    """One way in which a split differs from what was expected."""

    split: str
    feature: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.split}: {self.feature}: {self.kind}: {self.detail}"


def find_anomalies(
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    schema: schema_pb2.Schema,
    previous: statistics_pb2.DatasetFeatureStatisticsList | None = None,
    serving: statistics_pb2.DatasetFeatureStatisticsList | None = None,
) -> list[Anomaly]:
    """Compares each split with the schema, the previous span and serving data.

    Drift and skew are measured for the features whose schema names a
    comparator. ExampleValidator never passes the last two, so they are passed here.

    Args:
        statistics: by split; drift and skew are measured on `train`.
        schema: with drift and skew comparators where wanted.
        previous: statistics of the span before, for drift.
        serving: statistics of what the model is asked, for skew.
    """
    found = []
    for split, observed in statistics.items():
        training = split == "train"
        result = tfdv.validate_statistics(
            observed,
            schema,
            previous_statistics=previous if training else None,
            serving_statistics=serving if training else None,
        )
        found += _anomalies(split, result)
    return found


def check(anomalies: list[Anomaly]) -> None:
    """Stops the run on any anomaly.

    Raises:
        GateError: names each anomaly and what to do.
    """
    if anomalies:
        listed = "\n".join(f"  - {anomaly}" for anomaly in anomalies)
        raise GateError(
            f"{len(anomalies)} anomalies in the ingested data:\n{listed}\n"
            "Mend the log, or review the schema in git if the data is right."
        )


def _anomalies(split: str, result: anomalies_pb2.Anomalies) -> list[Anomaly]:
    found = [
        Anomaly(split, name, info.short_description or "anomaly", info.description)
        for name, info in sorted(result.anomaly_info.items())
        if info.severity == anomalies_pb2.AnomalyInfo.ERROR
    ]
    dataset = result.dataset_anomaly_info
    if dataset.severity == anomalies_pb2.AnomalyInfo.ERROR:
        found.append(Anomaly(split, "dataset", dataset.short_description, dataset.description))
    return found
