"""From the narrow facts of all files to the one plan the writers follow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from heft.errors import DataError, GateError
from heft.logs.fields import IMPRESSIONS
from heft.logs.report import check_quarantine_rate
from heft.logs.settings import LogsSettings
from heft.logs.splitting import RequestTimes, SplitPlan, plan_splits

__all__ = ["Plan", "ReadFacts", "make_plan"]

# So many last times of a file are kept, to tell a few wrong ones from the end of the log, and
# events are wrong ones only if they are no larger a share of all.
_LATE, _STRAY = 64, 0.01
_DAY = 86_400.0
_NONE = np.empty(0, np.int64)


@dataclass
class ReadFacts:
    """What one file held; grows with its requests, not with its rows' width."""

    stream: str
    source: str
    number: int  # of the file, in its stream
    read: int = 0
    late: np.ndarray = field(default_factory=lambda: _NONE)  # ms of the last events, ascending
    events: int = 0  # rows with a time
    past: int = 0  # of them, after the end that the settings name
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejected: int | None = None  # line
    requests: RequestTimes = field(default_factory=RequestTimes)
    problem: str | None = None  # why the file could not be read

    def add_times(self, times: np.ndarray, end: int | None) -> None:
        """Notes the times of some rows, ms, and the end that the settings name, if they do."""
        late = np.concatenate([self.late, times])
        self.late = np.sort(np.partition(late, -_LATE)[-_LATE:] if len(late) > _LATE else late)
        self.events += len(times)
        self.past += 0 if end is None else int((times > end).sum())


@dataclass(frozen=True)
class Plan:
    """What the writers need to know; `splits` is None where nothing may be written."""

    end_of_data: int
    read: dict[str, int]
    reasons: dict[str, dict[str, int]]
    splits: SplitPlan | None = None
    problem: str | None = None
    gated: bool = False
    past: int = 0  # events after the end


def make_plan(facts: Sequence[ReadFacts], settings: LogsSettings) -> Plan:
    """Decides whether to go on and where the splits are cut.

    Facts may come in any order: the plan does not depend on it. What is wrong
    is kept in the plan, since an exception would lose its type on the way out
    of Beam.
    """
    ordered = sorted(facts, key=lambda fact: (fact.stream, fact.number))
    read: dict[str, int] = {}
    reasons: dict[str, Counter[str]] = {}
    for fact in ordered:
        read[fact.stream] = read.get(fact.stream, 0) + fact.read
        reasons.setdefault(fact.stream, Counter()).update(fact.reasons)
    plain = {stream: dict(sorted(counts.items())) for stream, counts in reasons.items()}
    end, past = _end_of_data(ordered, settings)
    try:
        _refuse(ordered, read, plain, settings)
        requests = RequestTimes.merged([f.requests for f in ordered if f.stream == IMPRESSIONS])
        splits = plan_splits(requests, settings.splits)
    except (DataError, GateError) as error:
        gated = isinstance(error, GateError)
        return Plan(end, read, plain, problem=str(error), gated=gated, past=past)
    return Plan(end, read, plain, splits, past=past)


def _end_of_data(facts: Sequence[ReadFacts], settings: LogsSettings) -> tuple[int, int]:
    """Until when the log was seen, ms, and how many events are later than that.

    It is the last event, unless the settings name another time, or a few events lie more than a
    conversion window, and a day, past all others: of a clock that was wrong, which would have
    every click seen for the whole window. -1 without events.
    """
    if settings.end_ms is not None:
        return settings.end_ms, sum(fact.past for fact in facts)
    late = np.sort(np.concatenate([_NONE, *(fact.late for fact in facts)]))[-_LATE:]
    if not len(late):
        return -1, 0
    after = np.arange(len(late) - 1, 0, -1)  # events behind each gap
    few = after <= _STRAY * sum(fact.events for fact in facts)
    apart = max(settings.conversion_window, _DAY) * 1_000
    strays = np.flatnonzero(few & (np.diff(late) > apart))
    return (int(late[strays[0]]), int(after[strays[0]])) if len(strays) else (int(late[-1]), 0)


def _refuse(
    facts: Sequence[ReadFacts], read: dict[str, int], reasons: dict[str, dict[str, int]],
    settings: LogsSettings,
) -> None:  # fmt: skip
    for fact in facts:
        if fact.problem is not None:
            raise DataError(fact.problem)
    for stream, rows in read.items():
        first = next(
            (f"{fact.source}, line {fact.first_rejected}" for fact in facts
             if fact.stream == stream and fact.first_rejected is not None), "",
        )  # fmt: skip
        check_quarantine_rate(stream, rows, reasons[stream], first, settings.max_quarantine_rate)
