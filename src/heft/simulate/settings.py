"""What a simulation is made of: who shops, how they look, what goes wrong."""

from typing import Literal

from pydantic import Field, model_validator

from heft.settings import Settings

__all__ = ["SimulationSettings"]


class SimulationSettings(Settings):
    """Settings of one simulated log. Shares and probabilities are in [0, 1].

    `data` is the folder of a source that is not `builtin`. A session is one
    result page. `eta` is the exponent of the examination curve (0: every rank
    is looked at equally). `trust_bias` scales the clicks that irrelevant items
    earn by their rank; 0 keeps only the growing doubt of deeper ranks, and
    `none` removes trust bias altogether. `label_noise` is the probability that
    a shopper's click label is turned over. `temperature` is that of the
    production ranker's Plackett-Luce noise, in standard deviations of its score.
    `mobile_eta` multiplies `eta` on mobile devices. `ranker_share` is the share
    of train pairs that the production ranker has learned from.
    """

    source: Literal["builtin", "chorus", "home_depot", "pairs"] = "builtin"
    data: str | None = None
    sessions: int = Field(20_000, ge=1)
    seed: int = Field(0, ge=0)

    eta: float = Field(1.0, ge=0, le=5)
    mobile_eta: float = Field(1.0, ge=0, le=5)
    trust_bias: float | Literal["none"] = 0.35
    label_noise: float = Field(0.0, ge=0, le=0.5)
    bots: float = Field(0.05, ge=0, lt=1)
    shuffled: float = Field(0.02, ge=0, le=1)

    page_size: int = Field(10, ge=2, le=10)
    min_candidates: int = Field(2, ge=2, description="judged items a logged query has at least")
    popularity: float = Field(0.8, ge=0, le=3, description="exponent of query popularity by rank")
    ranker_share: float = Field(0.01, gt=0, le=1)
    temperature: float = Field(0.5, gt=0)

    days: int = Field(14, ge=1, le=3660)
    spans: int = Field(1, ge=1)
    delay: Literal["exponential", "weibull"] = "exponential"
    delay_hours: float = Field(24.0, gt=0, description="mean hours from click to conversion")
    delay_shape: float = Field(0.6, ge=0.2, le=5, description="shape of Weibull delays")
    format: Literal["parquet", "jsonl", "csv"] = "parquet"

    @model_validator(mode="after")
    def _consistent(self) -> "SimulationSettings":
        if self.spans > self.days:
            raise ValueError(f"spans={self.spans} must be at most days={self.days}")
        if self.trust_bias != "none" and not 0 <= self.trust_bias <= 1:
            raise ValueError(f"trust_bias={self.trust_bias} must be 'none' or in [0, 1]")
        return self
