"""The facts of a run: what the report shows and what `summary.json` holds.

Every part may be absent, because a run may stop early; the report then says
that it is not available. Keys that are not known here are ignored, so that a
newer run can be read by an older Heft.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heft.errors import DataError
from heft.evaluation.comparison import Comparison
from heft.evaluation.verdict import Verdict

__all__ = [
    "Examination", "Facts", "Histogram", "Importance", "Lineage", "Metrics", "Ranking", "Rows",
    "Sample", "ScoreSummary", "Stream", "TaskImportance", "TitleMap", "parse_facts", "summary",
]  # fmt: skip

Figures = dict[str, dict[str, float | None]]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Rows(_Fact):
    """Rows of all streams read, rows written, and impressions by split."""

    read: int | None = None
    written: int | None = None
    splits: dict[str, int] = {}


class Stream(_Fact):
    """What became of one stream's rows (impressions, clicks, …)."""

    read: int
    written: int
    duplicates: int = 0
    conflicting: int = Field(0, description="impressions with the id of another page or item")
    quarantined: int = 0
    unattributed: dict[str, int] = Field({}, description="events by why they met no impression")
    reasons: dict[str, int] = Field({}, description="quarantined rows by reason")


class Metrics(_Fact):
    """Figures of each model: view, then metric."""

    weighted: Figures = {}
    control: Figures = {}


class Histogram(_Fact):
    """Samples by w⁺: n + 1 edges, n counts for each label."""

    edges: list[float]
    positive: list[float]
    negative: list[float]


class ScoreSummary(_Fact):
    """Quantiles of one estimator's scores at `points`, by label."""

    points: list[float]
    positive: list[float | None] = []
    negative: list[float | None] = []


class CorrectionSummary(ScoreSummary):
    """The same of a row weight, and its mean."""

    mean: float | None = None


class TaskImportance(_Fact):
    """The weights of one task. `ess` counts samples, `clip` is the clip in force."""

    rows: int | None = None
    positives: int | None = None
    ess: float | None = None
    clip: float | None = None
    histograms: Histogram | None = None
    scores: dict[str, ScoreSummary] = {}
    corrections: dict[str, CorrectionSummary] = {}


class Examination(_Fact):
    """How often each position is looked at, relative to the first."""

    positions: list[int]
    values: list[float]
    clicks: int | None = Field(None, description="clicks the estimate rests on")
    source: str | None = None


class ClickLines(_Fact):
    """P(click) = slope · attractiveness + offset, by position."""

    positions: list[int]
    slope: list[float]
    offset: list[float]
    clicks: int | None = Field(None, description="clicks the estimate rests on")
    source: str | None = None


class SampleWord(_Fact):
    """A word of a sample's text; see `heft.explain.Word`."""

    text: str
    integrated: float
    rollout: float


class Sample(_Fact):
    """One training sample, its weight pair and why it has it."""

    query: str | None = None
    title: str | None = None
    impression_id: str | None = None
    position: int | None = None
    click: int | None = None
    positive_weight: float | None = None
    negative_weight: float | None = None
    scores: dict[str, float | None] = {}
    reason: str | None = Field(None, description="a sentence; made from the facts if absent")
    words: dict[str, list[SampleWord]] = Field({}, description="of `query` and `title`")


class PairsRead(_Fact):
    """Query and title pairs that BERT read, now or in an earlier run, of all `pairs`."""

    pairs: int
    read: int
    reused: int
    impressions: int
    impressions_read: int


class Importance(_Fact):
    """What the weights are made of. `samples` has `heaviest` and `lightest`."""

    tasks: dict[str, TaskImportance] = {}
    examination: Examination | None = None
    clicks: ClickLines | None = None
    attention: PairsRead | None = None
    samples: dict[str, list[Sample]] = {}


class RankedFeature(_Fact):
    """One feature; by task `correlation`, `rank_correlation` and `mutual_information`."""

    name: str
    kind: str
    measures: dict[str, dict[str, float | None]]


class TitleMap(_Fact):
    """Titles on a plane: lists of one length."""

    x: list[float]
    y: list[float]
    category: list[str]
    importance: list[float]


class Ranking(_Fact):
    """Features by mutual information with clicks, the most first.

    `dimensions` counts those of the embeddings, of which the best are among `features`;
    `kept` is what the model sees, where features are selected.
    """

    rows: int
    of: int
    weighted: bool
    dimensions: int
    features: list[RankedFeature]
    kept: list[str] | None = None
    map: TitleMap | None = None


class Lineage(_Fact):
    """What made the model. Digests are hexadecimal, versions by package."""

    seed: int | None = None
    span: int | None = None
    config: str | None = Field(None, description="path of the config file")
    config_digest: str | None = None
    source_digest: str | None = None
    data_digest: str | None = None
    versions: dict[str, str] = {}


class Facts(_Fact):
    """A run. `training` is model, then curve (`loss`, `val_loss`), one value an epoch."""

    name: str = "run"
    created: str | None = Field(None, description="ISO 8601, UTC")
    rows: Rows | None = None
    quarantined: int | None = None
    duplicates: int | None = None
    streams: dict[str, Stream] = {}
    distinct_texts: int | dict[str, int] | None = None
    ess: dict[str, float | None] | None = Field(None, description="effective samples by task")
    seconds: dict[str, float] = Field({}, description="by node, in order; 0 if cached")
    metrics: Metrics | None = None
    comparison: Comparison | None = None
    verdict: Verdict | None = None
    blessed: bool | None = None
    blessing_reasons: list[str] = []
    pushed: bool | None = None
    model_path: str | None = None
    report_path: str | None = None
    importance: Importance | None = None
    ranking: Ranking | None = None
    training: dict[str, dict[str, list[float | None]]] = {}
    lineage: Lineage | None = None

    @property
    def shipped(self) -> str:
        """One word for the first line: shipped, not shipped, or not known."""
        if self.pushed is None and self.blessed is not False:
            return "not known"
        return "shipped" if self.pushed else "not shipped"


def parse_facts(facts: Mapping[str, Any]) -> Facts:
    """Facts from JSON-like values; what follows from other facts is filled in.

    Metrics and verdict follow from the comparison, rows, duplicates and
    quarantined from the streams, effective sample sizes from importance.

    Raises:
        DataError: a part is there and of another shape.
    """
    try:
        given = Facts.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "facts"
        raise DataError(
            f"{place} of the run's facts: {first['msg']}, received {str(first['input'])[:80]!r}; "
            "see heft.report.facts for the shape"
        ) from error
    derived = _from_streams(given) | _from_comparison(given)
    if given.importance and given.importance.tasks:
        derived["ess"] = {task: part.ess for task, part in given.importance.tasks.items()}
    absent = {name: value for name, value in derived.items() if getattr(given, name) is None}
    return given.model_copy(update=absent)


def summary(facts: Mapping[str, Any] | Facts) -> dict[str, Any]:
    """The facts for programs, as `summary.json`: JSON values, without curves and samples.

    Raises:
        DataError: as `parse_facts`.
    """
    parsed = facts if isinstance(facts, Facts) else parse_facts(facts)
    return parsed.model_dump(
        mode="json", exclude={"comparison", "importance", "ranking", "training"}
    )


def _from_streams(facts: Facts) -> dict[str, Any]:
    streams = facts.streams.values()
    if not streams:
        return {}
    read, written = sum(s.read for s in streams), sum(s.written for s in streams)
    return {
        "rows": Rows(read=read, written=written),
        "duplicates": sum(s.duplicates for s in streams),
        "quarantined": sum(s.quarantined for s in streams),
    }


def _from_comparison(facts: Facts) -> dict[str, Any]:
    found = facts.comparison
    if found is None:
        return {}
    metrics = Metrics(weighted=found.metrics("weighted"), control=found.metrics("control"))
    return {"metrics": metrics, "verdict": found.verdict}
