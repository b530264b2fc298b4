"""The parts of a run's facts: each is what one node found, and any of them may be absent."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "ArtifactFact", "ClickLines", "CorrectionSummary", "DriftFact", "Examination", "Fact",
    "FeatureShap", "Figures", "GateFacts", "Histogram", "Importance", "KnownLabelFact",
    "LabelRates", "Lineage", "Metrics", "PairsRead", "RankedFeature", "Ranking", "Rows", "Sample",
    "SampleWord", "ScoreSummary", "Shap", "Stream", "TaskImportance", "TitleMap", "WeightSliceFact",
]  # fmt: skip

Figures = dict[str, dict[str, float | None]]


class Fact(BaseModel):
    """The base: frozen, and blind to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="null")


class Rows(Fact):
    """Rows of all streams read, rows written, and impressions by split."""

    read: int | None = None
    written: int | None = None
    splits: dict[str, int] = {}


class Stream(Fact):
    """What became of one stream's rows (impressions, clicks, …)."""

    read: int
    written: int
    duplicates: int = 0
    conflicting: int = Field(0, description="impressions with the id of another page or item")
    quarantined: int = 0
    unattributed: dict[str, int] = Field({}, description="events by why they met no impression")
    reasons: dict[str, int] = Field({}, description="quarantined rows by reason")


class Metrics(Fact):
    """Figures of each model: view, then metric."""

    weighted: Figures = {}
    control: Figures = {}
    baseline: Figures = {}


class Histogram(Fact):
    """Samples by w⁺: n + 1 edges, n counts for each label."""

    edges: list[float]
    positive: list[float]
    negative: list[float]


class ScoreSummary(Fact):
    """Quantiles of one estimator's scores at `points`, by label."""

    points: list[float]
    positive: list[float | None] = []
    negative: list[float | None] = []


class CorrectionSummary(ScoreSummary):
    """The same of a row weight, and its mean."""

    mean: float | None = None


class TaskImportance(Fact):
    """The weights of one task. `ess` counts samples, `clip` is the clip in force."""

    rows: int | None = None
    positives: int | None = None
    ess: float | None = None
    clip: float | None = None
    histograms: Histogram | None = None
    scores: dict[str, ScoreSummary] = {}
    corrections: dict[str, CorrectionSummary] = {}


class Examination(Fact):
    """How often each position is looked at, relative to the first."""

    positions: list[int]
    values: list[float]
    clicks: int | None = Field(None, description="clicks the estimate rests on")
    source: str | None = None


class ClickLines(Fact):
    """P(click) = slope · attractiveness + offset, by position."""

    positions: list[int]
    slope: list[float]
    offset: list[float]
    clicks: int | None = Field(None, description="clicks the estimate rests on")
    source: str | None = None


class SampleWord(Fact):
    """A word of a sample's text; see `heft.explain.Word`."""

    text: str
    integrated: float
    rollout: float


class Sample(Fact):
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


class PairsRead(Fact):
    """Query and title pairs that BERT read, now or in an earlier run, of all `pairs`."""

    pairs: int
    read: int
    reused: int
    impressions: int
    impressions_read: int


class WeightSliceFact(Fact):
    """Weights of the training rows with one value in one column, as samples of clicks.

    `mean` is the mean mass |w⁺| + |w⁻| relative to that of all rows, `quantiles` are of the mass
    at 10, 50 and 90 %, `ess` is the effective sample size as a share of the rows.
    """

    column: str
    value: str
    rows: int
    clicks: int
    mean: float
    quantiles: list[float]
    ess: float


class Importance(Fact):
    """What the weights are made of. `samples` has `heaviest` and `lightest`."""

    tasks: dict[str, TaskImportance] = {}
    examination: Examination | None = None
    clicks: ClickLines | None = None
    attention: PairsRead | None = None
    samples: dict[str, list[Sample]] = {}
    slices: list[WeightSliceFact] = []


class RankedFeature(Fact):
    """One feature; by task `correlation`, `rank_correlation` and `mutual_information`."""

    name: str
    kind: str
    measures: dict[str, dict[str, float | None]]


class TitleMap(Fact):
    """Titles on a plane: lists of one length."""

    x: list[float]
    y: list[float]
    category: list[str]
    importance: list[float]


class FeatureShap(Fact):
    """Mean |φ| of one feature in log odds of a click, and which way its larger values point."""

    name: str
    mean: float
    direction: float | None = None


class Shap(Fact):
    """SHAP values of trees fitted to the weighted rows, the largest first, over `rows` rows."""

    features: list[FeatureShap]
    rows: int


class Ranking(Fact):
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
    shap: Shap | None = None


class DriftFact(Fact):
    """How far one column is from an earlier span, or from what is served."""

    split: str
    feature: str
    against: str
    measure: str
    value: float
    threshold: float


class LabelRates(Fact):
    """Clicks per impression, conversions per click, and clicks without an impression."""

    ctr: float | None = None
    cvr: float | None = None
    orphan_share: float | None = None


class KnownLabelFact(Fact):
    """How well one column alone tells a label, an AUC in [0.5, 1]."""

    feature: str
    task: str
    auc: float


class GateFacts(Fact):
    """What AnomalyGate compared, and with which spans."""

    span: int | None = None
    compared_with: list[int] = []
    notes: list[str] = []
    measured: list[DriftFact] = []
    labels: LabelRates | None = None
    usual_labels: LabelRates | None = None
    known_labels: list[KnownLabelFact] = []


class ArtifactFact(Fact):
    """What a node read or made: its id in ML Metadata, its type, and where it lies."""

    name: str
    type: str
    id: int
    uri: str


class Lineage(Fact):
    """What made the model. Digests are hexadecimal, versions by package."""

    seed: int | None = None
    span: int | None = None
    config: str | None = Field(None, description="path of the config file")
    config_digest: str | None = None
    source_digest: str | None = None
    data_digest: str | None = None
    versions: dict[str, str] = {}
    artifacts: list[ArtifactFact] = []
