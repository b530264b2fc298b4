"""How features are ranked, and how a model chooses among them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heft.settings import Settings

__all__ = ["RankingSettings", "SelectionSettings"]


class RankingSettings(Settings):
    """How features are ranked, and titles drawn as a map.

    Attributes:
        rows: at most that many training rows are looked at, drawn by a hash of the row.
        bins: of equal mass, for mutual information.
        weighted: rows count by their weight pairs, so that what is ranked is what the
            weighted model learns; otherwise each counts once.
        map_titles: titles on the map, by traffic; 0 for no map.
        perplexity: of the map, about how many neighbours a title has.
        seed: of the rows and of the map.
    """

    rows: int = Field(50_000, ge=1)
    bins: int = Field(32, ge=2)
    weighted: bool = True
    map_titles: int = Field(800, ge=0, le=5_000)
    perplexity: float = Field(30.0, gt=0)
    seed: int = 0


class SelectionSettings(Settings):
    """Which features the model sees, by their place in the ranking.

    Attributes:
        by: what they are ranked by; of a correlation the magnitude.
        task: clicks or conversions.
        top: the best so many are kept.
        minimum: what is below it is dropped.
        embedding_dimensions: so many dimensions of the embeddings, the best of all of query,
            title and their product, join the principal components.
    """

    by: Literal["mutual_information", "correlation", "rank_correlation"] = "mutual_information"
    task: Literal["ctr", "cvr"] = "ctr"
    top: int | None = Field(None, ge=1)
    minimum: float | None = Field(None, ge=0)
    embedding_dimensions: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _selects_something(self) -> Self:
        if self.top is None and self.minimum is None and not self.embedding_dimensions:
            raise ValueError(
                "nothing is selected: expected top, minimum or embedding_dimensions; leave "
                "selection out to keep every feature"
            )
        return self
