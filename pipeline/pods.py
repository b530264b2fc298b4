"""What one node gets in a pod beside what TFX gives it: written into the spec, read in the pod."""

from typing import Any

from pydantic import Field

from heft.settings import Settings

__all__ = ["OWN_TYPES", "Pod", "Recalled", "Remembered", "Workers"]

_MODULE = "components.artifacts"
_NAMES = (
    "FeatureRankings", "PairReadings", "Quarantine", "Report", "SampleImportance",
    "TextEmbeddings", "TextEncoderFolder", "WeightingVerdict",
)  # fmt: skip
# TFX takes the title of a type that is not its own for where to import it from, and Vertex
# allows one dot in a title.
OWN_TYPES = {f"heft.{name}": f"{_MODULE}.{name}" for name in _NAMES}


class Recalled(Settings):
    """An input that earlier runs have left.

    Attributes:
        name: that it was kept under.
        before_span_of: an input; only spans before its span are taken, in place of the latest.
        spans, since: how many of them, and not before which.
        alike: properties that have to be these.
    """

    name: str
    before_span_of: str | None = None
    spans: int = 1
    since: int = 0
    alike: dict[str, Any] = Field(default_factory=dict)


class Remembered(Settings):
    """What is kept for later runs.

    Attributes:
        key: an output, or an input.
        name: to keep it under.
        most: that stay.
        if_blessed: an output; kept only if that blesses.
    """

    key: str
    name: str
    most: int = 3
    if_blessed: str | None = None


class Workers(Settings):
    """Pods that train one model together.

    Attributes:
        folder: where they find each other.
        index: of this one.
        count: of all.
        patience: seconds to wait for the others.
    """

    folder: str
    index: int
    count: int
    patience: float


class Pod(Settings):
    """What one node gets.

    Attributes:
        memory: folder of what runs leave for later ones.
        recall: inputs by key.
        remember: what to keep.
        runtime: runtime parameters that this node takes.
        texts: files by the parameter that is to name them.
        simulate: settings of a simulation whose logs are read.
        thresholds, slices, evaluation: what the Evaluator's config is made of.
        span_of: an input whose span the report names.
        resume: folder where a training that is started again finds how far it was.
        workers: of a training.
    """

    memory: str = ""
    recall: dict[str, Recalled] = Field(default_factory=dict)
    remember: tuple[Remembered, ...] = ()
    runtime: tuple[str, ...] = ()
    texts: dict[str, str] = Field(default_factory=dict)
    simulate: dict[str, Any] | None = None
    thresholds: dict[str, Any] | None = None
    slices: tuple[str, ...] = ()
    evaluation: dict[str, Any] = Field(default_factory=dict)
    span_of: str = ""
    resume: str = ""
    workers: Workers | None = None
