"""What ingest did with every row, and the check that none was lost."""

from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from heft.errors import GateError, HeftError
from heft.logs.crediting import ORPHAN

__all__ = [
    "IngestReport", "StreamReport", "check_conflict_rate", "check_orphans", "check_quarantine_rate",
]  # fmt: skip

_MANY = 20  # events of which none can be orphans by chance


class StreamReport(BaseModel):
    """One stream's rows. `written` are impressions in splits, attributed
    events, items and grades; `conflicting` are impressions whose id names another page or item
    as well; `unattributed` are events by kind."""

    model_config = ConfigDict(frozen=True)

    read: int
    written: int
    duplicates: int
    conflicting: int = 0
    quarantined: int
    unattributed: dict[str, int] = {}
    reasons: dict[str, int] = {}


class IngestReport(BaseModel):
    """All of a run; `summary.json` of the Quarantine artifact."""

    model_config = ConfigDict(frozen=True)

    span: int  # the newest that was read
    window: int = 1  # how many were
    streams: dict[str, StreamReport]
    splits: dict[str, int]  # rows by split; a split without rows is not there
    unknown_items: int  # rows whose item the catalogue does not have
    missing_vectors: dict[str, int] | None = None  # rows without one, by column; None if none read
    rows_without_history: int | None = None  # None if no history was asked for
    # Conversions credited to a view, flags of a conversion where nothing was clicked, and events
    # past the end.
    notes: dict[str, int] | None = None
    end_of_data: int  # ms, UTC, until when the log was seen; -1 if nothing could be read
    problem: str | None = None  # why nothing was written
    gated: bool = False  # whether the problem is a gate, as too many rows in quarantine

    @property
    def rows_quarantined(self) -> int:
        """Quarantined rows of all streams."""
        return sum(stream.quarantined for stream in self.streams.values())

    def check_balance(self) -> None:
        """Every row read is accounted for, once.

        Raises:
            HeftError: one is not; that is a defect of Heft, never of the data.
        """
        for name, stream in self.streams.items():
            kept = stream.written + sum(stream.unattributed.values())
            apart = stream.duplicates + stream.conflicting + stream.quarantined
            if stream.read != kept + apart:
                raise HeftError(
                    f"{name}: {stream.read} rows read, but {kept} written, {stream.duplicates} "
                    f"duplicates, {stream.conflicting} conflicting and {stream.quarantined} "
                    "quarantined: rows were lost; "
                    "please report this with the log's format"
                )


def check_quarantine_rate(
    stream: str, read: int, reasons: Mapping[str, int], example: str, allowed: float
) -> None:
    """Stops a run that would silently go on with a part of the log.

    Raises:
        GateError: more than `allowed` of the rows cannot be used.
    """
    quarantined = sum(reasons.values())
    if not read or quarantined <= allowed * read:
        return
    commonest = ", ".join(f"{why} ({n:,})" for why, n in Counter(reasons).most_common(3))
    raise GateError(
        f"{stream}: {quarantined:,} of {read:,} rows ({quarantined / read:.1%}) cannot be used, "
        f"more than max_quarantine_rate={allowed}: {commonest}; the first is {example}. "
        "Correct the log or its column mapping, or raise max_quarantine_rate"
    )


def check_conflict_rate(read: int, conflicting: int, allowed: float) -> None:
    """Stops a run whose impression ids name several impressions each.

    Raises:
        GateError: more than `allowed` of the impressions have the id of another one.
    """
    if conflicting > allowed * read:
        raise GateError(
            f"impressions: {conflicting:,} of {read:,} rows ({conflicting / read:.1%}) have the "
            f"impression_id of a row of another request or item, more than max_conflict_rate="
            f"{allowed}: expected an id for each impression; map a column that has one, such as "
            "request and position joined, or raise max_conflict_rate"
        )


def check_orphans(stream: str, met: int, unattributed: Mapping[str, int]) -> None:
    """Stops a run whose events all name impressions that are not there.

    Args:
        stream: clicks or conversions.
        met: its rows that were attributed.
        unattributed: the others, by kind.

    Raises:
        GateError: there are many of them, and not one met an impression.
    """
    orphans = unattributed.get(ORPHAN, 0)
    if not met and orphans >= _MANY and orphans == sum(unattributed.values()):
        raise GateError(
            f"{stream}: none of {orphans:,} rows has the impression_id of an impression: compare "
            f"the ids of both, correct `{stream}.columns` or the span, or set `{stream}: null`"
        )
