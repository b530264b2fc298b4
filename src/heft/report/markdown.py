"""The report in a screen of Markdown, for a pull request."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from heft.evaluation.results import FairnessGap, MetricResult
from heft.report.facts import Facts, parse_facts
from heft.report.wording import (
    VIEW_TEXT,
    count,
    duration,
    headline,
    metric_label,
    number,
    percent,
    plain,
    signed,
    why,
)

__all__ = ["markdown", "markdown_text"]


def markdown(facts: Mapping[str, Any] | Facts) -> str:
    """A short summary: shipped or not and why, the figures by view, rows, seconds.

    Raises:
        DataError: as `parse_facts`.
    """
    run = facts if isinstance(facts, Facts) else parse_facts(facts)
    lines = [f"## {headline(run)}: {markdown_text(run.name)}", ""]
    lines += [f"- {markdown_text(reason, 1_000)}" for reason in why(run)]
    baseline = run.comparison.baseline if run.comparison else None
    for name, view in (run.comparison.views if run.comparison else {}).items():
        groups = {"query": "queries", "request": "requests"}.get(view.group_by, view.group_by)
        size = f"{count(view.rows)} rows, {count(view.groups)} {groups}"
        lines += ["", f"**{VIEW_TEXT[name][0]}** ({size})", ""]
        lines += _table(view.metrics, view.confidence, baseline)
        lines += _fairness(view.fairness)
    lines += ["", _rows(run), "", f"Took {duration(sum(run.seconds.values()) or None)}."]
    return "\n".join(lines) + "\n"


def _table(metrics: Sequence[MetricResult], confidence: float, baseline: str | None) -> list[str]:
    beside = baseline is not None and any(metric.baseline is not None for metric in metrics)
    third = f" {baseline} |" if beside else ""
    lines = [
        f"| metric | weighted | control |{third} difference ({confidence:.0%} interval) | better |",
        f"| :-- | --: | --: |{' --: |' if beside else ''} --: | :-- |",
    ]
    for metric in metrics:
        change = signed(metric.difference)
        if metric.low is not None:
            change += f" ({signed(metric.low)} to {signed(metric.high)})"
        figures = f"{number(metric.weighted)} | {number(metric.control)} | "
        figures += f"{number(metric.baseline)} | {change}" if beside else change
        lines.append(f"| {metric_label(metric.name)} | {figures} | {metric.better or ''} |")
    return lines


def _fairness(gaps: Sequence[FairnessGap]) -> list[str]:
    return ["", *(_gap(gap) for gap in gaps)] if gaps else []


def _gap(gap: FairnessGap) -> str:
    text = (
        f"- {gap.metric.replace('_', ' ').capitalize()} by {markdown_text(gap.column, 60)}: "
        f"largest gap {number(gap.gap, 3)}"
    )
    if gap.low is not None:
        text += f" ({number(gap.low, 3)} to {number(gap.high, 3)})"
    text += f", from {markdown_text(gap.lowest, 60)} to {markdown_text(gap.highest, 60)}"
    return text + (f"; the limit is {number(gap.limit, 3)}." if gap.limit is not None else ".")


def _rows(run: Facts) -> str:
    read, written = (run.rows.read, run.rows.written) if run.rows else (None, None)
    text = (
        f"Rows: {count(read)} read, {count(written)} written, {count(run.duplicates)} "
        f"duplicates, {count(run.quarantined)} quarantined."
    )
    for task, ess in (run.ess or {}).items():
        known = run.importance.tasks.get(task) if run.importance else None
        share = f" ({percent(ess, known.rows)} of the rows)" if known and known.rows else ""
        text += f" Effective sample size of {markdown_text(task)}: {count(ess)}{share}."
    return text


def markdown_text(value: object, limit: int = 200) -> str:
    """Text that Markdown and the HTML within it leave alone."""
    text = plain(value, limit).replace("&", "&amp;").replace("<", "&lt;")
    # A zero-width space keeps a name with @ from notifying somebody.
    return re.sub(r"([\\`*_\[\]|#!~])", r"\\\1", text).replace("@", "@\u200b")
