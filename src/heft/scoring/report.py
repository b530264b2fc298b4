"""What became of every row that was to be scored."""

from pydantic import BaseModel

from heft.errors import GateError

__all__ = ["ScoreReport"]


class ScoreReport(BaseModel):
    """Counts of one scoring job; `read` is the sum of `scored` and `quarantined`.

    Attributes:
        read: rows of all files.
        scored: rows that the model was asked of.
        quarantined: rows that cannot be used, by reason.
        groups: requests, or queries where there are no requests.
        group: what candidates were ranked within.
        by: what they were ordered by.
        written: rows in the output; fewer than `scored` where only the best are kept.
        unknown_items: rows whose item the catalogue lacks, and whose title is empty therefore.
        model: that was asked.
        files: of the output.
    """

    read: int
    scored: int
    quarantined: dict[str, int]
    groups: int
    group: str
    by: str
    written: int
    unknown_items: int
    model: str
    files: list[str]

    def check(self, limit: float) -> None:
        """Raises:
        GateError: rows got lost, or more than the share `limit` of them cannot be used.
        """
        lost = self.read - self.scored - sum(self.quarantined.values())
        if lost:
            raise GateError(f"{lost} of {self.read} rows got lost: this is a fault of Heft's")
        bad = sum(self.quarantined.values())
        if bad > limit * self.read:
            why = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.quarantined.items()))
            raise GateError(
                f"{bad} of {self.read} rows cannot be scored, more than max_quarantine_rate="
                f"{limit} allows: {why}; look at quarantine.jsonl.gz in the output"
            )
