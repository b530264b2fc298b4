"""How a model that passed is checked, pushed and asked."""

from typing import Literal

from pydantic import Field, field_validator

from heft.ranking_expression import RankingExpression
from heft.settings import Settings

__all__ = ["RANKINGS_FILE", "ServingSettings"]

RANKINGS_FILE = "rankings.json"  # beside the pushed versions: expressions by name


class ServingSettings(Settings):
    """What is not the model's own.

    Attributes:
        validator: what gates the push: `stand_in` is Heft's ServingValidator; `docker` and
            `kubernetes` are TFX's InfraValidator, which starts a tensorflow/serving image.
        image: of InfraValidator, without its tag.
        tag: of that image.
        service_account: of InfraValidator's pods, on `kubernetes`.
        keep_versions: pushed versions that stay, the newest ones; 0 keeps all.
        models_config: a models.config; what its labels point at stays too.
        rankings: expressions to order items by, under names for `heft predict --by` and
            `Client.rank`, such as `margin: ctcvr * (price - cost)`.
    """

    validator: Literal["stand_in", "docker", "kubernetes"] = "stand_in"
    image: str = "tensorflow/serving"
    tag: str = "2.20.0"
    service_account: str = "default"
    keep_versions: int = Field(5, ge=0)
    models_config: str | None = None
    rankings: dict[str, str] = Field(default_factory=dict)

    @field_validator("rankings")
    @classmethod
    def _can_be_computed(cls, rankings: dict[str, str]) -> dict[str, str]:
        for name, text in rankings.items():
            try:
                RankingExpression(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return rankings
