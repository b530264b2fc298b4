"""`heft score`: a run's pushed model asked of files of candidates."""

from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from rich.markup import escape
from rich.table import Table

from heft.console import log_to_file
from heft.errors import ConfigError
from heft.logs.storage import is_remote
from heft.model.predict import pushed_model
from heft.ranking_expression import RankingExpression
from heft.scoring import ScoreReport, ScoreSettings, score
from heft.screen import journal_of
from heft.storage import writing_to
from pipeline.beam import beam_args, check_engine
from pipeline.street import Street

__all__ = ["score_files"]


def score_files(
    street: Street,
    inputs: str,
    output: str,
    *,
    by: str,
    model: str | None,
    columns: dict[str, Any],
    top: int,
) -> ScoreReport:
    """Scores files on the Beam runner of the config and prints what became of every row.

    Args:
        street: of the config.
        inputs: a file, or a pattern.
        output: a folder.
        by: an expression, or the name of one of the config's rankings.
        model: a SavedModel; by default what the config's run pushed last.
        columns: Heft's name of a column → the input's own.
        top: candidates of a group to keep; 0 keeps all.

    Raises:
        InputError: the config, the input or the model cannot be used.
        GateError: too many rows cannot be used.
    """
    run_dir = street.run_dir
    config = street.load(run_dir)
    try:
        expression = RankingExpression(config.serving.rankings.get(by, by))
    except ValueError as error:
        raise ConfigError(
            f"--by {by}: {error}; the config's rankings are {sorted(config.serving.rankings)}"
        ) from None
    settings = ScoreSettings(
        inputs=inputs,
        model=_model(model or str(pushed_model(run_dir))),
        logs=config.logs,
        by=expression,
        columns={name: str(own) for name, own in columns.items()},
        top=top,
    )
    check_engine(config.beam)
    options = PipelineOptions(beam_args(config.beam))
    FileSystems.set_options(options)
    log_to_file(run_dir / "score_logs.txt", street.verbose, journal_of(street.console))
    with street.console.status(f"scoring {inputs}"), writing_to(output):
        report = score(settings, output, lambda: beam.Pipeline(options=options))
    street.console.print(_table(report, output))
    return report


def _model(path: str) -> str:
    """Workers may have another working directory."""
    return path if is_remote(path) else str(Path(path).absolute())


def _table(report: ScoreReport, output: str) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("rows read", f"{report.read:,}"),
        ("scored", f"{report.scored:,}"),
        ("quarantined", f"{sum(report.quarantined.values()):,}"),
        ("items not in the catalogue", f"{report.unknown_items:,}"),
        (f"groups by {report.group}", f"{report.groups:,}"),
        ("rows written", f"{report.written:,}"),
        ("ordered by", report.by),
        ("model", report.model),
        ("output", output),
    ):
        table.add_row(escape(name), escape(value))
    return table
