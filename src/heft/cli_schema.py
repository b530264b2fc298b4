"""`heft schema`: the reviewed schema of a config's log."""

from pathlib import Path
from typing import Annotated

import typer

from heft.cli_options import (
    RUNS,
    Config,
    LogFormat,
    RunName,
    RunsDir,
    Set,
    Span,
    Verbose,
    With,
    overrides,
    street_of,
)

__all__ = ["app"]

app = typer.Typer(
    help="Keep the schema in git: what a span of the log must look like.", no_args_is_help=True
)


@app.command()
def infer(
    config: Config,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to, if not schema_dir.")
    ] = None,
    values: Annotated[
        int, typer.Option(help="Most values of a column whose values are listed.", min=0)
    ] = 20,
    force: Annotated[bool, typer.Option("--force", help="Replace one that is there.")] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Write a schema from the data of a span, to be reviewed."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.schemas import infer_schema

    infer_schema(street, out, force, values)


@app.command()
def diff(
    config: Config,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 if there is a difference.")
    ] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Say in which features the newest data differ from the schema."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.schemas import diff_schema

    diff_schema(street, exit_code)


@app.command()
def accept(
    config: Config,
    features: Annotated[
        list[str] | None, typer.Argument(help="Features whose difference is right.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every feature that differs.")] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Widen the schema by features whose data is right; the rest of the file stays."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.schemas import accept_schema

    accept_schema(street, features or [], all_)
