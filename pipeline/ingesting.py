"""`heft ingest`: the first node alone, or a look at what it would do."""

import datetime
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from heft import features
from heft.errors import GateError
from heft.logs.fields import CLICKS, CONVERSIONS, IMPRESSIONS
from heft.logs.ingest import ingest
from heft.logs.report import IngestReport, check_conflict_rate, check_quarantine_rate
from heft.logs.sampling import LogSample, StreamSample, sample_log
from heft.logs.settings import LogsSettings
from heft.logs.spans import SpanPattern
from heft.storage import writing_to
from pipeline.street import Street, logs_of, tell_of_absent

__all__ = ["check_logs", "ingest_logs"]

_UNITS = ("B", "kB", "MB", "GB", "TB")


def check_logs(street: Street) -> None:
    """Reads a sample of the log and prints what a run would do with it.

    Raises:
        InputError: the config or the log cannot be used.
        GateError: more rows of the sample than may be cannot be used.
    """
    run_dir, settings = logs_of(street)
    sample = sample_log(settings)
    console = street.console
    console.print(
        f"\n[bold]{escape(str(street.config_path))}[/]  a look at the log, nothing is run"
    )
    _print_span(console, settings, sample)
    console.print(_stream_table(sample))
    for name, stream in sample.streams.items():
        console.print(_column_table(name, stream))
    _print_reasons(console, sample)
    plan = Table.grid(padding=(0, 2), pad_edge=True)
    for what, text in _plan(settings, sample):
        plan.add_row(f" [bold]{what}[/]", escape(text))
    console.print(plan)
    tell_of_absent(street.load(run_dir), sample.looked, console)
    console.print()
    for name, stream in sample.streams.items():
        if stream.problem:
            raise GateError(f"the run would stop: {stream.problem}")
        first = next(iter(stream.first.values()), "")
        check_quarantine_rate(
            name, stream.read, stream.reasons, first, settings.max_quarantine_rate
        )
    shown = sample.streams[IMPRESSIONS]
    check_conflict_rate(shown.read, shown.conflicting, settings.max_conflict_rate)


def ingest_logs(street: Street, out: Path | None) -> IngestReport:
    """Writes the examples of a log, split by split, and prints what became of every row.

    Raises:
        InputError: the config or the log cannot be used.
        GateError: too many rows cannot be used.
        LockedError: another command is at work in the run's folder, which is written to.
    """
    if out is not None and street.load().simulate is None:
        with writing_to(out):
            return _ingest(street, out)
    with street.alone("heft ingest"):
        return _ingest(street, out or street.run_dir / "ingest")


def _ingest(street: Street, folder: Path) -> IngestReport:
    _, settings = logs_of(street)
    uris = {split: str(folder / f"Split-{split}") for split in features.SPLITS}
    with street.console.status(f"reading {settings.root}"):
        report = ingest(settings, uris, str(folder / "quarantine"))
    street.console.print(_report_table(report))
    splits = ", ".join(f"{name} {rows:,}" for name, rows in report.splits.items())
    street.console.print(f"  splits      {splits}")
    if report.notes:
        notes = ", ".join(f"{name} {rows:,}" for name, rows in report.notes.items())
        end = _value(features.TIMESTAMP, str(report.end_of_data))
        street.console.print(f"  notes       {notes}; the log ends {end}", soft_wrap=True)
    street.console.print(f"  examples    {folder}", soft_wrap=True, markup=False)
    street.console.print(f"  quarantine  {folder / 'quarantine'}", soft_wrap=True, markup=False)
    return report


def _print_span(console: Console, settings: LogsSettings, sample: LogSample) -> None:
    pattern = SpanPattern(settings.impressions.path)
    spans = [pattern.shown(span) for span in sample.looked.spans]
    which = spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}, {len(spans)} spans"
    named = f", span {which}" if pattern.has_span else ""
    console.print(f"{escape(settings.root)}{named}\n", soft_wrap=True)


def _stream_table(sample: LogSample) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("stream")
    for name in ("files", "size"):
        table.add_column(name, justify="right")
    table.add_column("format")
    for name in ("rows sampled", "usable", "quarantined"):
        table.add_column(name, justify="right")
    for name, stream in sample.streams.items():
        usable = stream.read - stream.rejected
        share = f" ({stream.rejected / stream.read:.1%})" if stream.rejected else ""
        colour = "red" if stream.rejected or stream.problem else "green"
        table.add_row(
            name, f"{stream.files:,}", _size(stream.size), ", ".join(stream.kinds),
            f"{stream.read:,}", f"{usable:,}", f"[{colour}]{stream.rejected:,}{share}[/]",
        )  # fmt: skip
    return table


def _column_table(name: str, stream: StreamSample) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column(f"\n{name}", min_width=15)
    table.add_column("\nfrom", min_width=10)
    table.add_column("\nsuch as", overflow="ellipsis", no_wrap=True)
    for own, (column, shown) in stream.columns.items():
        if shown is None and own == column:
            continue
        value = "[dim]nothing found[/]" if shown is None else escape(_value(own, shown))
        table.add_row(own, "" if own == column else escape(column), value)
    absent = [own for own, (column, shown) in stream.columns.items() if shown is None]
    if absent and stream.read:
        table.add_row("[dim]not there[/]", "", f"[dim]{', '.join(absent)}[/]")
    return table


def _value(name: str, shown: str) -> str:
    if name == features.TIMESTAMP:
        time = datetime.datetime.fromtimestamp(int(shown) / 1_000, datetime.UTC)
        return time.isoformat(timespec="milliseconds")
    return shown[:60]


def _print_reasons(console: Console, sample: LogSample) -> None:
    console.print()
    for name, stream in sample.streams.items():
        for reason, rows in stream.reasons.most_common(8):
            said = f"{rows:,} of {name} to quarantine: {reason} (first in {stream.first[reason]})"
            console.print(f"  [red]×[/] {escape(said)}", soft_wrap=True)
        if stream.problem:
            console.print(f"  [red]×[/] {escape(stream.problem)}", soft_wrap=True)
        usable = stream.read - stream.rejected
        if usable and stream.orphans == usable:
            said = f"none of {usable:,} sampled {name} meets a sampled impression: compare the ids"
            console.print(f"  [red]×[/] {said}", soft_wrap=True)


def _plan(settings: LogsSettings, sample: LogSample) -> list[tuple[str, str]]:
    """What the run would do, a line for each part of it."""
    looked = sample.looked
    buckets = settings.buckets or looked.buckets
    lines = [
        ("rows", f"about {looked.rows:,} impressions in {buckets} shards a split"),
        ("ids", _ids(sample)),
        ("labels", _labels(settings)),
        ("splits", _splits(settings, sample)),
    ]
    if settings.negative_rate < 1:
        lines.append(
            ("sampling", f"{settings.negative_rate:.0%} of requests keep their unclicked rows in "
             "train; the others keep clicked rows alone")
        )  # fmt: skip
    if looked.persons:
        lines.append(
            ("people", f"{', '.join(looked.persons)} leave as keyed hashes "
             f"(${settings.privacy.key_variable}); quarantine keeps no line as it was")
        )  # fmt: skip
    if settings.privacy.redact:
        kinds = ", ".join(settings.privacy.redact)
        lines.append(("queries", f"{kinds} taken out: {sample.redacted:,} queries of the sample"))
    return lines


def _ids(sample: LogSample) -> str:
    shown = sample.streams[IMPRESSIONS]
    said = (
        f"of {shown.read:,} sampled impressions {shown.duplicates:,} are duplicates and "
        f"{shown.conflicting:,} conflicting"
    )
    for name in (CLICKS, CONVERSIONS):
        if events := sample.streams.get(name):
            usable = events.read - events.rejected
            said += f"; {events.orphans:,} of {usable:,} {name} without a sampled impression"
    return said


def _labels(settings: LogsSettings) -> str:
    if settings.label_column:
        click = f"clicks as {settings.label_column!r} says"
    elif settings.clicks:
        click = f"the {settings.click_attribution} click within {settings.click_window:,.0f} s"
    else:
        click = "no clicks"
    if settings.conversion_column:
        conversion = f"conversions as {settings.conversion_column!r} says"
    elif settings.conversions:
        conversion = f"a conversion within {settings.conversion_window:,.0f} s of it"
    else:
        conversion = "no conversions"
    views = "" if settings.view_window is None else f", or {settings.view_window:,.0f} s of a view"
    return f"{click}; {conversion}{views}"


def _splits(settings: LogsSettings, sample: LogSample) -> str:
    own = settings.splits
    asked = f"by {own.by}: natural {own.natural:.0%}, tune {own.tune:.0%}"
    if sample.requests is None:
        return f"{asked}; the sample is too small to be cut"
    found = ", ".join(f"{name} {count:,}" for name, count in sample.requests.items())
    return f"{asked}; requests of the sample: {found}"


def _report_table(report: IngestReport) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim")
    table.add_column("stream")
    for name in ("read", "written", "duplicates", "conflicting", "quarantined"):
        table.add_column(name, justify="right")
    table.add_column("not attributed")
    for name, stream in report.streams.items():
        left = ", ".join(f"{kind} {rows:,}" for kind, rows in stream.unattributed.items())
        table.add_row(
            name, *(f"{n:,}" for n in (stream.read, stream.written, stream.duplicates,
                                       stream.conflicting, stream.quarantined)), left,
        )  # fmt: skip
    return table


def _size(size: float) -> str:
    unit = 0
    while size >= 1_000 and unit < len(_UNITS) - 1:
        size, unit = size / 1_000, unit + 1
    return f"{size:,.0f} {_UNITS[unit]}" if unit == 0 else f"{size:,.1f} {_UNITS[unit]}"
