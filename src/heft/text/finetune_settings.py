"""How an encoder is fine-tuned on clicks."""

from typing import Literal

from pydantic import Field

from heft.settings import Settings

__all__ = ["FinetuneSettings"]


class FinetuneSettings(Settings):
    """Contrastive training of low-rank adapters on clicked query–title pairs.

    Attributes:
        steps: batches that are learned from.
        batch_size: clicked pairs of a step; the titles of the others are each one's negatives.
        page_negatives: titles of each query's own pages that nobody clicked, as further
            negatives.
        learning_rate: of Adam, the highest; it rises over a tenth of the steps and falls to 0.
        rank: of the adapters.
        targets: projections of attention that get one.
        temperature: of the cosine.
        correct_popularity: take the logarithm of a title's share of the draws from its logit.
        weighted: pairs count by the positive weights of ImportanceEstimator, not by clicks.
        holdout: share of the queries that are not learned from, to judge by.
        evaluate_every: steps between two looks at them; the best state is kept, the
            parent's included.
        max_tokens: longer texts are cut there while training.
        seed: of batches, adapters and the queries held out.
    """

    steps: int = Field(200, ge=1)
    batch_size: int = Field(64, ge=2)
    page_negatives: int = Field(1, ge=0)
    learning_rate: float = Field(5e-4, gt=0)
    rank: int = Field(8, ge=1)
    targets: tuple[Literal["query", "key", "value", "attention_output"], ...] = ("query", "value")
    temperature: float = Field(0.05, gt=0)
    correct_popularity: bool = True
    weighted: bool = False
    holdout: float = Field(0.1, gt=0, lt=1)
    evaluate_every: int = Field(50, ge=1)
    max_tokens: int = Field(32, ge=3)
    seed: int = 0
