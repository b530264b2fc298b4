"""From the narrow facts of all files to the one plan the writers follow."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from heft.errors import DataError, GateError
from heft.logs.fields import IMPRESSIONS
from heft.logs.report import check_quarantine_rate
from heft.logs.settings import LogsSettings
from heft.logs.splitting import RequestTimes, SplitPlan, plan_splits

__all__ = ["Plan", "ReadFacts", "make_plan"]


@dataclass
class ReadFacts:
    """What one file held; grows with its requests, not with its rows' width."""

    stream: str
    source: str
    number: int  # of the file, in its stream
    read: int = 0
    latest: int = -1  # ms of the last event
    reasons: Counter[str] = field(default_factory=Counter)
    first_rejected: int | None = None  # line
    requests: RequestTimes = field(default_factory=RequestTimes)
    problem: str | None = None  # why the file could not be read


@dataclass(frozen=True)
class Plan:
    """What the writers need to know; `splits` is None where nothing may be written."""

    end_of_data: int
    read: dict[str, int]
    reasons: dict[str, dict[str, int]]
    splits: SplitPlan | None = None
    problem: str | None = None
    gated: bool = False


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
    latest = max((fact.latest for fact in ordered), default=-1)
    try:
        _refuse(ordered, read, plain, settings)
        requests = RequestTimes.merged([f.requests for f in ordered if f.stream == IMPRESSIONS])
        splits = plan_splits(requests, settings.splits)
    except (DataError, GateError) as error:
        gated = isinstance(error, GateError)
        return Plan(latest, read, plain, problem=str(error), gated=gated)
    return Plan(latest, read, plain, splits)


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
