"""What is scored, and how it is ordered."""

from dataclasses import dataclass, field

from heft import features as f
from heft.errors import ConfigError
from heft.logs.fields import CATALOGUE, Field, Kind
from heft.logs.settings import LogsSettings, StreamSettings
from heft.ranking_expression import RankingExpression

__all__ = ["CANDIDATES", "GROUPS", "KEPT", "ScoreSettings"]

CANDIDATES = "candidates"  # the stream that is read
GROUPS = (f.REQUEST_ID, f.QUERY)  # what candidates are ranked within, the first that there is
KEPT = (f.REQUEST_ID, f.QUERY, f.ITEM_ID, f.TITLE)  # columns of the input that are written again


@dataclass(frozen=True)
class ScoreSettings:
    """A scoring job.

    Attributes:
        inputs: a file, or a pattern with `*` and `?`.
        model: a SavedModel.
        logs: of the run that made it: its further columns, its catalogue, what is taken out of
            queries, and how many rows may be useless.
        by: what candidates are ordered by.
        columns: Heft's name of a column → the input's own.
        top: candidates of a group to keep, the best ones; 0 keeps all.
    """

    inputs: str
    model: str
    logs: LogsSettings
    by: RankingExpression = field(default_factory=lambda: RankingExpression(f.CTCVR))
    columns: dict[str, str] = field(default_factory=dict)
    top: int = 0

    def __post_init__(self) -> None:
        known = [one.name for one in self.fields]
        unknown = sorted(set(self.columns) - set(known))
        if unknown:
            raise ConfigError(f"--column names {unknown}: expected some of {known}")
        numbers = {one.name for one in self.fields if one.kind is Kind.NUMBER}
        odd = sorted(self.by.names - numbers - {f.CTR, f.CVR, f.CTCVR})
        if odd:
            raise ConfigError(
                f"--by {self.by.text}: {odd} are no numbers; expected outputs of the model and "
                "numeric columns"
            )

    @property
    def stream(self) -> StreamSettings:
        """How the input is read."""
        return StreamSettings(path=CANDIDATES, columns=self.columns)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns that an input may have: a query, and what is known of an item."""
        keys = (
            Field(f.QUERY, Kind.TEXT),
            Field(f.REQUEST_ID, Kind.TEXT, required=False),
            Field(f.ITEM_ID, Kind.TEXT, required=False),
            Field(f.TITLE, Kind.TEXT, required=False),
        )
        taken = {one.name for one in keys}
        item = [
            Field(one.name, one.kind, False, one.width)
            for one in self.logs.fields_of(CATALOGUE)
            if one.name not in taken
        ]
        if self.logs.history:
            item.append(Field(f.HISTORY, Kind.TEXTS, False, self.logs.history))
        taken |= {one.name for one in item} | {f.CTR, f.CVR, f.CTCVR}
        # What the ranking alone reads has to be there.
        own = [Field(name, Kind.NUMBER) for name in sorted(self.by.names - taken)]
        return (*keys, *item, *own)
