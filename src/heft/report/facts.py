"""The facts of a run: what the report shows, and what `report.json` and `summary.json` hold.

Every part may be absent, because a run may stop early; the report then says
that it is not available. Keys that are not known here are ignored, so that a
newer run can be read by an older Heft.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from heft.errors import DataError
from heft.evaluation.results import Comparison, Verdict
from heft.report.parts import Fact, GateFacts, Importance, Lineage, Metrics, Ranking, Rows, Stream

__all__ = ["Facts", "complete", "json_schema", "parse_facts", "summary"]

SCHEMA_VERSION = 1


class Facts(Fact):
    """A run. `training` is model, then curve (`loss`, `val_loss`), one value an epoch."""

    version: int = Field(SCHEMA_VERSION, description="of this schema")
    name: str = "run"
    created: str | None = Field(None, description="ISO 8601, UTC")
    rows: Rows | None = None
    quarantined: int | None = None
    duplicates: int | None = None
    streams: dict[str, Stream] = {}
    gate: GateFacts | None = None
    distinct_texts: int | dict[str, int] | None = None
    ess: dict[str, float | None] | None = Field(None, description="effective samples by task")
    seconds: dict[str, float] = Field({}, description="by node, in order; 0 if cached")
    metrics: Metrics | None = None
    comparison: Comparison | None = None
    verdict: Verdict | None = None
    blessed: bool | None = None
    blessing_reasons: list[str] = []
    pushed: bool | None = None
    model_path: str | None = None
    report_path: str | None = None
    importance: Importance | None = None
    ranking: Ranking | None = None
    training: dict[str, dict[str, list[float | None]]] = {}
    lineage: Lineage | None = None

    @property
    def shipped(self) -> str:
        """One word for the first line: shipped, not shipped, or not known."""
        if self.pushed is None and self.blessed is not False:
            return "not known"
        return "shipped" if self.pushed else "not shipped"


def parse_facts(facts: Mapping[str, Any]) -> Facts:
    """Facts from JSON-like values; what follows from other facts is filled in.

    Metrics and verdict follow from the comparison, rows, duplicates and
    quarantined from the streams, effective sample sizes from importance.

    Raises:
        DataError: a part is there and of another shape.
    """
    try:
        given = Facts.model_validate(facts)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "facts"
        raise DataError(
            f"{place} of the run's facts: {first['msg']}, received {str(first['input'])[:80]!r}; "
            "see heft.report.facts for the shape"
        ) from error
    derived = _from_streams(given) | _from_comparison(given)
    if given.importance and given.importance.tasks:
        derived["ess"] = {task: part.ess for task, part in given.importance.tasks.items()}
    absent = {name: value for name, value in derived.items() if getattr(given, name) is None}
    return given.model_copy(update=absent)


def complete(facts: Mapping[str, Any] | Facts) -> dict[str, Any]:
    """All facts as JSON values, as `report.json`; figures that are not numbers are null.

    Raises:
        DataError: as `parse_facts`.
    """
    parsed = facts if isinstance(facts, Facts) else parse_facts(facts)
    found: dict[str, Any] = json.loads(parsed.model_dump_json())
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`."""
    schema = Facts.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


def summary(facts: Mapping[str, Any] | Facts) -> dict[str, Any]:
    """The facts for programs, as `summary.json`: JSON values, without curves and samples.

    Raises:
        DataError: as `parse_facts`.
    """
    parsed = facts if isinstance(facts, Facts) else parse_facts(facts)
    return parsed.model_dump(
        mode="json", exclude={"comparison", "gate", "importance", "ranking", "training", "version"}
    )


def _from_streams(facts: Facts) -> dict[str, Any]:
    streams = facts.streams.values()
    if not streams:
        return {}
    read, written = sum(s.read for s in streams), sum(s.written for s in streams)
    return {
        "rows": Rows(read=read, written=written),
        "duplicates": sum(s.duplicates for s in streams),
        "quarantined": sum(s.quarantined for s in streams),
    }


def _from_comparison(facts: Facts) -> dict[str, Any]:
    found = facts.comparison
    if found is None:
        return {}
    metrics = Metrics(
        weighted=found.metrics("weighted"),
        control=found.metrics("control"),
        baseline=found.metrics("baseline") if found.baseline else {},
    )
    return {"metrics": metrics, "verdict": found.verdict}
