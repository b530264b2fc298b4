"""Settings of the weighing step."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from heft import features as f
from heft.errors import ConfigError
from heft.importance.combine import Mode
from heft.importance.registry import create, names, parameters
from heft.settings import Settings

__all__ = ["NO_DEBIAS", "OFFERED", "ImportanceSettings"]

NO_DEBIAS = "none"
# What the weighing step hands to any estimator whose constructor takes it.
OFFERED = ("proxy", "reference", "examination", "model", "random_state")

Chain = str | tuple[str, ...]


class ImportanceSettings(Settings):
    """Which estimators, and how their scores become weights.

    Attributes:
        debias: an estimator with weight pairs, or `none`; or a list of it and of
            what else hides a positive (`delayed_feedback`), whose probabilities of
            having been seen multiply; or either by task: `{ctr: …, cvr: […, …]}`.
        propensity: of examination: an estimate, or the logged `propensity` column.
        examination: what the estimate rests on, and nothing else: `shuffled_pages`,
            `pairs` that repeat, or where they seldom do the features by
            `regression_em` or `dual_learning`. `auto` is shuffled pages with clicks
            enough, else pairs.
        minimum_shuffled_clicks: with fewer clicks on shuffled pages than this,
            examination is estimated from repeated query-item pairs instead.
        variance_power, aggregate: of `InversePropensity`.
        minimum_propensity: propensities below are raised to it.
        corrections: row weights by estimator name, each with its settings: which
            rows count, for the positive and the negative part alike.
        sampling_rate: the share of negatives that the log kept, which
            `negative_sampling` makes up for.
        target_days: the last days of the train split are the domain that
            `domain_ratio` aims at.
        quality, value: exponent by estimator name; 0 computes and reports a
            score without using it.
        estimators: settings by estimator name.
        mode, clip, minimum_ess: see `combine`.
        attention_pairs: query and title pairs that BERT reads for `attention`, by
            impressions; of others its score is predicted from the cosine.
        fit_rows: estimators learn from at most so many rows, whole requests of
            them; all rows are scored. `tune` and `harvest` likewise.
        reference: the split that serves estimators in need of clean samples.
            `auto` is `harvest` where it holds enough positives, else `tune`.
        reference_rows: most rows of it.
        slice_column, protected_column: categorical columns, by which slices and
            groups are told apart.
        folds, epochs: of the out-of-fold proxy model.
        samples: how many of the heaviest and of the lightest samples are kept
            for the report.
        seed: of everything random.
    """

    debias: Chain | dict[str, Chain] = {f.CTR: "pair_posterior", f.CVR: "examination_posterior"}
    propensity: Literal["estimated", "logged"] = "estimated"
    examination: Literal["auto", "shuffled_pages", "pairs", "regression_em", "dual_learning"] = (
        "auto"
    )
    minimum_shuffled_clicks: int = Field(2000, ge=1)
    variance_power: float = Field(1.0, ge=0)
    aggregate: bool = False
    minimum_propensity: float = Field(0.02, gt=0, le=1)
    corrections: dict[str, dict[str, Any]] = {"fraud": {}, "repetition": {}}
    sampling_rate: float = Field(1.0, gt=0, le=1)
    target_days: float | None = Field(None, gt=0)
    quality: dict[str, float] = {"label_quality": 0.0}
    value: dict[str, float] = {"el2n": 0.0}
    estimators: dict[str, dict[str, Any]] = {}
    mode: Mode = "pair"
    clip: float = Field(5.0, ge=1)
    minimum_ess: float = Field(0.1, ge=0, le=1)
    attention_pairs: int = Field(50_000, ge=1)
    fit_rows: int = Field(1_000_000, ge=1)
    reference: Literal["auto", "harvest", "tune", "none"] = "auto"
    reference_rows: int = Field(20_000, ge=1)
    slice_column: str | None = None
    protected_column: str | None = None
    folds: int = Field(4, ge=2)
    epochs: int = Field(3, ge=1)
    samples: int = Field(50, ge=0)
    seed: int = 0

    def chain(self, task: str) -> tuple[str, ...]:
        """The debias estimators of a task: who makes the pairs, then who else hides positives."""
        chain = self.debias[task] if isinstance(self.debias, dict) else self.debias
        names = (chain,) if isinstance(chain, str) else chain
        return () if names == (NO_DEBIAS,) else names

    def asks_for_click_model(self, task: str) -> bool:
        """Whether a debias estimator of the task knows trust as well as examination."""
        return any("model" in parameters(name) for name in self.chain(task))

    @property
    def exponents(self) -> dict[str, float]:
        """Exponent by estimator name, of quality and value together."""
        # A name that a config gives in one of them is not also the other's default.
        given = "value" if "value" in self.model_fields_set else "quality"
        return {**self.quality, **self.value, **getattr(self, given)}

    def asks_for(self, name: str) -> bool:
        """Whether the estimator gives a score, by itself or as a member of `ensemble`."""
        members = self.estimators.get("ensemble", {}).get("members", ())
        inside = "ensemble" in self.exponents and name in [m.removeprefix("-") for m in members]
        return inside or name in self.exponents

    def create(self, name: str, **offered: Any) -> Any:
        """An unfitted estimator, with its settings and what it takes of `offered`.

        Raises:
            ConfigError: unknown name, or settings that it does not take.
        """
        given = {**self.estimators.get(name, {}), **self.corrections.get(name, {})}
        taken = {k: v for k, v in offered.items() if k in parameters(name)}
        return create(name, **{**taken, **given})

    @model_validator(mode="after")
    def _one_source_of_examination(self) -> Self:
        if self.propensity == "logged" and self.examination != "auto":
            raise ValueError(
                f"examination={self.examination!r} is an estimate and propensity is 'logged': "
                "expected propensity: estimated, or examination: auto"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        """An unknown name would otherwise be found only when the node is reached."""
        try:
            self._check_debias()
            for name in self.estimators:
                _check_settings(name, self.estimators[name])
            self._check_kind(self.exponents, "score", "quality and value")
            self._check_kind(self.corrections, "weight", "corrections")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        both = sorted(set(self.quality) & set(self.value))
        if both and {"quality", "value"} <= self.model_fields_set:
            raise ValueError(f"{both[0]!r} stands in quality and in value: expected one of the two")
        unused = sorted(set(self.estimators) - set(self._used()))
        if unused:
            raise ValueError(
                f"estimators has settings of {unused[0]!r}, which nothing uses: expected one of "
                f"{sorted(set(self._used()))}; name it in debias, quality or value"
            )
        return self

    def _check_debias(self) -> None:
        if isinstance(self.debias, dict) and set(self.debias) != set(f.TASKS):
            raise ConfigError(
                f"debias has the tasks {sorted(self.debias)}: expected {sorted(f.TASKS)}"
            )
        for task in f.TASKS:
            chain = self.chain(task)
            if NO_DEBIAS in chain or len(set(chain)) < len(chain):
                raise ConfigError(
                    f"debias of {task} is {list(chain)}: expected {NO_DEBIAS!r} alone, or each "
                    "name once"
                )
            for place, name in enumerate(chain):
                _known(name, [*names(), NO_DEBIAS], "debias")
                kinds = ("propensity",) if place else ("pairs", "propensity")
                for kind in kinds:
                    _check_method(name, self.create(name), kind, f"debias of {task}")

    def _check_kind(self, chosen: Mapping[str, object], method: str, where: str) -> None:
        for name in chosen:
            _known(name, names(), "estimator")
            if name in self.corrections:
                _check_settings(name, self.corrections[name])
            _check_method(name, self.create(name), method, where)

    def _used(self) -> Iterator[str]:
        for task in f.TASKS:
            yield from self.chain(task)
        yield from self.exponents


def _known(name: str, expected: list[str], what: str) -> None:
    if name not in expected:
        raise ConfigError(f"Expected one of {expected}, received: {what}={name!r}")


def _check_settings(name: str, given: Mapping[str, Any]) -> None:
    """Only what a config can say: a proxy, say, is none of its business."""
    expected = [key for key in parameters(name) if key not in OFFERED]
    for key in given:
        if not expected:
            raise ConfigError(f"{name} takes no settings, received: {name}.{key}")
        if key not in expected:
            raise ConfigError(f"Expected one of {expected}, received: {name}.{key}")


def _check_method(name: str, estimator: object, method: str, where: str) -> None:
    if not callable(getattr(estimator, method, None)):
        fitting = [n for n in names() if _has(n, method)]
        raise ConfigError(f"Expected one of {fitting}, received: {name!r} in {where}")


def _has(name: str, method: str) -> bool:
    try:
        return callable(getattr(create(name), method, None))
    except ConfigError:
        return False
