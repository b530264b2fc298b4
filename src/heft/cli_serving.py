"""Commands that put a trained model to work: offline, and as logs come in."""

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
    pairs,
    street_of,
)

__all__ = ["score", "stream"]


def score(
    config: Config,
    input_: Annotated[
        str, typer.Option("--input", help="Parquet, JSON Lines or CSV: a file, or a pattern.")
    ],
    output: Annotated[str, typer.Option("--output", help="Folder for Parquet files.")],
    by: Annotated[
        str, typer.Option(help="An output, an expression such as ctcvr*price, or a ranking's name.")
    ] = "ctcvr",
    top: Annotated[int, typer.Option(help="Keep the best of each group; 0 keeps all.", min=0)] = 0,
    model: Annotated[
        str | None, typer.Option(help="A SavedModel, if not what the run pushed last.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option("--column", help="A column's own name: query=search_term.")
    ] = None,
    runs: RunsDir = RUNS,
    name: RunName = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Rank candidates in files by a pushed model, on Beam."""
    street = street_of(config, runs, with_, overrides(set_, name, None), verbose)
    from pipeline.scoring import score_files

    columns = pairs(column or [])
    score_files(street, input_, output, by=by, model=model, columns=columns, top=top)


def stream(
    config: Config,
    # Not a Path, which would make a folder's name of "s3://bucket".
    inbox: Annotated[
        str | None, typer.Option(help="Folder that log files land in, if not the config's.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is there, train if it is time, and end.")
    ] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Take log files as they land, and push a new model on a schedule or after N conversions."""
    changes = list(set_ or []) + ([] if inbox is None else [f"stream.inbox={inbox}"])
    street = street_of(config, runs, with_, overrides(changes, name, None), verbose)
    from pipeline.streaming import stream_logs

    stream_logs(street, once=once)
