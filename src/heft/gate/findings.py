"""What the gate found, as it lies in its artifact: `gate.json`, `anomalies.txt`, statistics."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow_metadata.proto.v0 import anomalies_pb2

from heft.errors import DataError
from heft.gate.anomaly import Anomaly
from heft.gate.comparing import Measured
from heft.gate.labels import LabelCounts
from heft.gate.leaks import KnownLabel
from heft.gate.statistics import STATISTICS_FILE, Statistics
from heft.gate.table import AnomaliesFound, table_text

__all__ = ["FACTS_FILE", "FORMAT", "TABLE_FILE", "Findings", "Passed"]

FORMAT = 1
FACTS_FILE, TABLE_FILE = "gate.json", "anomalies.txt"


@dataclass(frozen=True)
class Passed:
    """An earlier span that passed, as its artifact has it.

    Attributes:
        uri: of the artifact.
        span: its newest.
        labels: of it.
    """

    uri: str
    span: int
    labels: LabelCounts

    @classmethod
    def load(cls, uri: str) -> "Passed":
        """Reads what `Findings.save` wrote.

        Raises:
            DataError: there is nothing of this format.
        """
        path = f"{uri}/{FACTS_FILE}"
        if not tf.io.gfile.exists(path):
            raise DataError(f"{uri}: no {FACTS_FILE}; run AnomalyGate again for that span")
        with tf.io.gfile.GFile(path, "r") as file:
            facts = json.loads(file.read())
        if facts["format"] != FORMAT:
            raise DataError(f"{path} is of another format; run AnomalyGate again for that span")
        return cls(uri, facts["span"], LabelCounts.of_json(facts["labels"]))

    def statistics(self, split: str) -> Statistics | None:
        """Of a split, if it had one."""
        path = f"{self.uri}/Split-{split}/{STATISTICS_FILE}"
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path, "rb") as file:
            return Statistics.FromString(file.read())


@dataclass(frozen=True)
class Findings:
    """All of one span.

    Attributes:
        span: the newest that the run read.
        anomalies: none of a span that passes.
        notes: what was not checked, and why, in sentences.
        compared_with: the spans that labels are compared with, the newest, which drift is
            measured against, first.
        measured: drift and skew of every column that was compared.
        labels, usual: of this span, and of those it is compared with.
        known_labels: how well each column alone tells a label, the closest first.
        statistics: by split.
        differences: from the schema, by split, as TFDV says them.
    """

    span: int
    anomalies: tuple[Anomaly, ...]
    notes: tuple[str, ...]
    compared_with: tuple[int, ...]
    measured: tuple[Measured, ...]
    labels: LabelCounts
    usual: LabelCounts | None
    known_labels: tuple[KnownLabel, ...]
    statistics: Mapping[str, Statistics] = field(default_factory=dict, repr=False)
    differences: Mapping[str, anomalies_pb2.Anomalies] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        """Whether the run may go on."""
        return not self.anomalies

    def to_json(self) -> dict[str, Any]:
        """The content of `gate.json`."""
        return {
            "format": FORMAT,
            "span": self.span,
            "passed": self.passed,
            "compared_with": list(self.compared_with),
            "notes": list(self.notes),
            "anomalies": [asdict(anomaly) for anomaly in self.anomalies],
            "measured": [one.to_json() for one in self.measured],
            "labels": self.labels.to_json(),
            "usual_labels": None if self.usual is None else self.usual.to_json(),
            "known_labels": [one.to_json() for one in self.known_labels],
        }

    def save(self, uri: str) -> None:
        """Writes the facts, the table, and for each split its statistics and, as TFX's own
        ExampleValidator does, `SchemaDiff.pb`."""
        tf.io.gfile.makedirs(uri)
        with tf.io.gfile.GFile(f"{uri}/{FACTS_FILE}", "w") as file:
            file.write(json.dumps(self.to_json(), indent=1))
        with tf.io.gfile.GFile(f"{uri}/{TABLE_FILE}", "w") as file:
            file.write(table_text(self.anomalies) if self.anomalies else "no anomalies\n")
        for name, messages in (
            (STATISTICS_FILE, self.statistics), ("SchemaDiff.pb", self.differences),
        ):  # fmt: skip
            for split, message in messages.items():
                tf.io.gfile.makedirs(f"{uri}/Split-{split}")
                with tf.io.gfile.GFile(f"{uri}/Split-{split}/{name}", "wb") as file:
                    file.write(message.SerializeToString())

    def check(self, uri: str) -> None:
        """Stops the run on any anomaly.

        Raises:
            AnomaliesFound: with the table, where it lies, and what to do.
        """
        if self.anomalies:
            raise AnomaliesFound(self.span, self.anomalies, f"{uri}/{TABLE_FILE}")
