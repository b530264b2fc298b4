"""Commands that put a trained model to work: offline, and as logs come in."""

from pathlib import Path
from typing import Annotated, Any

import typer

from heft.cli_options import RUNS, Config, RunName, RunsDir, Set, Verbose, With, pairs, screen

__all__ = ["score", "stream"]


def score(
    context: typer.Context,
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
) -> None:
    """Rank candidates in files by a pushed model, on Beam."""
    from heft.console import quiet

    quiet(verbose)
    from pipeline.scoring import score_files

    street = _street(context, config, runs, with_, set_, name, verbose)
    columns = pairs(column or [])
    score_files(street, input_, output, by=by, model=model, columns=columns, top=top)


def stream(
    context: typer.Context,
    config: Config,
    inbox: Annotated[
        Path | None, typer.Option(help="Folder that log files land in, if not the config's.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Take what is there, train if it is time, and end.")
    ] = False,
    runs: RunsDir = RUNS,
    name: RunName = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Take log files as they land, and push a new model on a schedule or after N conversions."""
    from heft.console import quiet

    quiet(verbose)
    from pipeline.streaming import stream_logs

    changes = list(set_ or []) + ([] if inbox is None else [f"stream.inbox={inbox}"])
    street = _street(context, config, runs, with_, changes, name, verbose)
    stream_logs(street, once=once)


def _street(
    context: typer.Context,
    config: Path,
    runs: Path,
    overlays: list[Path] | None,
    set_: list[str] | None,
    name: str | None,
    verbose: bool,
) -> Any:
    from pipeline.street import Street

    overrides = pairs(set_ or []) | ({"name": name} if name else {})
    return Street(config, runs, context.obj, tuple(overlays or ()), overrides, screen, verbose)
