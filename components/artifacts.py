"""The artifact types Heft adds to TFX's own."""

from tfx.types.artifact import Artifact, Property, PropertyType

__all__ = [
    "GATE_FORMAT", "FeatureRankings", "PairReadings", "Quarantine", "Report", "SampleImportance",
    "TextEmbeddings", "TextEncoderFolder", "WeightingVerdict",
]  # fmt: skip

# Of ExampleAnomalies: which version of AnomalyGate's files lies there. A span that did not
# pass has no artifact.
GATE_FORMAT = "gate_format"


class Quarantine(Artifact):
    """Rows ingest could not use: `quarantine.jsonl.gz` and `summary.json`."""

    TYPE_NAME = "HeftQuarantine"
    PROPERTIES = {"rows": Property(type=PropertyType.INT)}


class TextEmbeddings(Artifact):
    """One vector for each distinct query and title; see `heft.text.table`."""

    TYPE_NAME = "HeftTextEmbeddings"
    PROPERTIES = {
        "texts": Property(type=PropertyType.INT),
        "encoder": Property(type=PropertyType.STRING),
    }


class TextEncoderFolder(Artifact):
    """A fine-tuned checkpoint in `encoder/`; see `heft.text.finetune`."""

    TYPE_NAME = "HeftTextEncoder"
    PROPERTIES = {
        "parent": Property(type=PropertyType.STRING),
        "steps": Property(type=PropertyType.INT),
    }


class PairReadings(Artifact):
    """What BERT's attention says of query and title pairs; see `heft.text.links`."""

    TYPE_NAME = "HeftPairReadings"
    PROPERTIES = {"pairs": Property(type=PropertyType.INT)}


class FeatureRankings(Artifact):
    """Features by what they have to do with the labels; see `heft.selection`."""

    TYPE_NAME = "HeftFeatureRankings"
    PROPERTIES = {"features": Property(type=PropertyType.INT)}


class SampleImportance(Artifact):
    """What the weights are made of: `importance.json`; see `heft.importance`."""

    TYPE_NAME = "HeftSampleImportance"
    PROPERTIES = {"rows": Property(type=PropertyType.INT)}


class WeightingVerdict(Artifact):
    """Weighted against control on the three views: `verdict.json`."""

    TYPE_NAME = "HeftWeightingVerdict"


class Report(Artifact):
    """`facts.json` and a self-contained `index.html`."""

    TYPE_NAME = "HeftReport"
