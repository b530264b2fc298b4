"""Commands that keep a run's folder in order."""

from typing import Annotated

import typer

from heft.cli_options import (
    RUNS,
    Config,
    LogFormat,
    RunName,
    RunsDir,
    Set,
    Verbose,
    With,
    overrides,
    street_of,
)

__all__ = ["clean"]


def clean(
    config: Config,
    keep: Annotated[
        int, typer.Option("--keep", help="Finished runs whose outputs stay, the newest.", min=1)
    ] = 5,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go, with sizes; remove nothing.")
    ] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Remove what old runs of a config left, and keep what is served or will be needed."""
    street = street_of(config, runs, with_, overrides(set_, name, None), verbose)
    from pipeline.cleaning import clean_runs

    clean_runs(street, keep=keep, dry_run=dry_run)
