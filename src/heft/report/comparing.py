"""Two runs side by side: what became of each, their figures, and what they were made of."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich import box
from rich.markup import escape
from rich.table import Table

from heft.evaluation.results import MetricResult
from heft.report.facts import Facts, parse_facts
from heft.report.markdown import markdown_text
from heft.report.wording import (
    MISSING,
    VIEW_TEXT,
    count,
    duration,
    headline,
    metric_label,
    number,
    plain,
    signed,
    why,
)

__all__ = ["Compared", "Figure", "Made", "compare_runs", "compared_markdown", "compared_table"]

# What two runs may differ in, by what is shown of it.
_MADE = ("config", "config_digest", "source_digest", "data_digest", "span", "seed")


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class Figure(_Result):
    """One metric of both weighted models, on one view.

    `apart` is true if their intervals do not overlap. `difference` is second - first.
    """

    view: str
    metric: str
    first: float | None
    second: float | None
    difference: float | None
    apart: bool
    same_rows: bool


class Made(_Result):
    """What a run was made of, or what it took, where two runs differ."""

    name: str
    first: str
    second: str


class Compared(_Result):
    """Two runs.

    Attributes:
        names: of the runs.
        headlines, reasons: whether each shipped, and why.
        figures: of the weighted models; the views that both runs have.
        made: settings, data, code and packages that differ.
        notes: what to keep in mind.
    """

    names: tuple[str, str]
    headlines: tuple[str, str]
    reasons: tuple[tuple[str, ...], tuple[str, ...]]
    figures: tuple[Figure, ...]
    made: tuple[Made, ...]
    notes: tuple[str, ...] = ()


def compare_runs(first: Mapping[str, Any] | Facts, second: Mapping[str, Any] | Facts) -> Compared:
    """What two runs have in common and what not.

    The figures of each are from its own rows: only where both were judged on the same log do they
    say which model is better.

    Raises:
        DataError: as `parse_facts`.
    """
    runs = tuple(run if isinstance(run, Facts) else parse_facts(run) for run in (first, second))
    one, other = runs
    figures = tuple(_figures(one, other))
    return Compared(
        names=(one.name, other.name),
        headlines=(headline(one), headline(other)),
        reasons=(tuple(why(one)), tuple(why(other))),
        figures=figures,
        made=tuple(_made(one, other)),
        notes=tuple(_notes(one, other, figures)),
    )


def compared_table(found: Compared) -> list[Table | str]:
    """For a terminal: headlines, figures, and what the runs are made of."""
    first, second = (escape(plain(name, 40)) for name in found.names)
    parts: list[Table | str] = []
    for name, said, reasons in zip(found.names, found.headlines, found.reasons, strict=True):
        parts.append(f"[bold]{escape(plain(name, 40))}[/]  {said}")
        parts += [f"  {escape(plain(reason, 400))}" for reason in reasons]
    table = Table("view", "metric", first, second, "difference", "apart", box=box.SIMPLE_HEAD)
    for figure in found.figures:
        table.add_row(
            figure.view, metric_label(figure.metric), number(figure.first),
            number(figure.second), signed(figure.difference), "yes" if figure.apart else "",
        )  # fmt: skip
    parts.append(table)
    made = Table("", first, second, box=box.SIMPLE_HEAD)
    for row in found.made:
        made.add_row(escape(row.name), escape(row.first), escape(row.second))
    parts += [made] if found.made else []
    return parts + [escape(note) for note in found.notes]


def compared_markdown(found: Compared) -> str:
    """The same for a pull request."""
    first, second = (_cell(name) for name in found.names)
    lines = [f"## {first} and {second}", ""]
    for name, said, reasons in zip((first, second), found.headlines, found.reasons, strict=True):
        lines.append(f"- **{name}**: {said}. {_cell(' '.join(reasons), 1_000)}")
    lines += ["", f"| view | metric | {first} | {second} | difference | apart |"]
    lines.append("| :-- | :-- | --: | --: | --: | :-- |")
    for figure in found.figures:
        cells = (
            VIEW_TEXT[figure.view][0], metric_label(figure.metric), number(figure.first),
            number(figure.second), signed(figure.difference), "yes" if figure.apart else "",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    if found.made:
        lines += ["", f"| | {first} | {second} |", "| :-- | :-- | :-- |"]
        lines += [f"| {_cell(m.name)} | {_cell(m.first)} | {_cell(m.second)} |" for m in found.made]
    lines += ["", *(_cell(note, 400) for note in found.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _figures(one: Facts, other: Facts) -> Iterator[Figure]:
    views = [run.comparison.views if run.comparison else {} for run in (one, other)]
    for name in VIEW_TEXT:
        if name not in views[0] or name not in views[1]:
            continue
        same = views[0][name].rows == views[1][name].rows and _same_data(one, other)
        for metric in views[0][name].metrics:
            beside = views[1][name].metric(metric.name)
            if beside is not None:
                yield _figure(name, metric, beside, same)


def _figure(view: str, one: MetricResult, other: MetricResult, same_rows: bool) -> Figure:
    first, second = one.weighted, other.weighted
    a, b = one.weighted_interval, other.weighted_interval
    return Figure(
        view=view,
        metric=one.name,
        first=first,
        second=second,
        difference=None if first is None or second is None else second - first,
        apart=a is not None and b is not None and (a[1] < b[0] or b[1] < a[0]),
        same_rows=same_rows,
    )


def _made(one: Facts, other: Facts) -> Iterator[Made]:
    runs = (one, other)
    lines = [run.lineage for run in runs]
    pairs: list[tuple[str, list[Any]]] = [
        (name.replace("_", " "), [getattr(line, name, None) for line in lines]) for name in _MADE
    ]
    versions = [line.versions if line else {} for line in lines]
    for package in dict.fromkeys((*versions[0], *versions[1])):
        pairs.append((package, [known.get(package) for known in versions]))
    pairs.append(("rows written", [count(run.rows.written if run.rows else None) for run in runs]))
    for task in dict.fromkeys((*(one.ess or {}), *(other.ess or {}))):
        sizes = [count((run.ess or {}).get(task)) for run in runs]
        pairs.append((f"effective sample size, {task}", sizes))
    took = [duration(sum(run.seconds.values()) if run.seconds else None) for run in runs]
    pairs.append(("time", took))
    for name, (first, second) in pairs:
        if first != second:
            yield Made(name=name, first=_shown(first), second=_shown(second))


def _notes(one: Facts, other: Facts, figures: Sequence[Figure]) -> Iterator[str]:
    if not figures:
        yield "There is no view that both runs were judged on."
    elif not all(figure.same_rows for figure in figures):
        yield (
            "The runs were judged on different rows: a difference may be one of the data and not "
            "of the models."
        )
    else:
        yield (
            "Both runs were judged on the same rows. Intervals that overlap do not show that there "
            "is no difference; a paired comparison is that of a run with its control or with the "
            "last blessed model."
        )


def _same_data(one: Facts, other: Facts) -> bool:
    digests = [run.lineage.data_digest if run.lineage else None for run in (one, other)]
    return digests[0] is not None and digests[0] == digests[1]


def _shown(value: object) -> str:
    return MISSING if value is None else plain(value, 80)


def _cell(value: object, limit: int = 80) -> str:
    return markdown_text(value, limit)
