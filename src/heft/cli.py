"""The `heft` command."""

import importlib.metadata
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from heft import cli_after, cli_operations, cli_scale, cli_schema, cli_serving
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
    pairs,
    screen,
    street_of,
)
from heft.cli_showing import show_crash, show_error, show_usage, tell_of_end, tell_of_signal
from heft.errors import ConfigError, HeftError
from heft.exit_codes import ExitCode, exit_code_lines
from heft.signals import Ending, ended_by_signal
from heft.storage import storage_fault, writing_to

__all__ = ["app", "main"]

app = typer.Typer(
    help="Estimate what each training sample is worth, train with it, ship it if no gate objects.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
Source = Literal["builtin", "chorus", "home_depot", "pairs"]


def main() -> None:
    """Runs the command; what a user can mend ends in one message, not a traceback."""
    screen.journal = None
    began = time.monotonic()

    def leave(ending: Ending) -> None:
        tell_of_signal(ending)
        tell_of_end(ending.exit_code, began)

    with ended_by_signal(leave) as ending:
        code = _code(ending)
    tell_of_end(code, began)
    sys.exit(code)


def _code(ending: Ending) -> int:
    """Runs the command and returns its exit code."""
    try:
        code = _run(ending)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    if ending.number is not None:  # whatever an engine made of it
        tell_of_signal(ending)
        return ending.exit_code
    return code


def _run(ending: Ending) -> int:
    try:
        returned = app(standalone_mode=False)
        return returned if isinstance(returned, int) else ExitCode.OK
    except TyperException as error:
        show_usage(error)
        return error.exit_code
    except HeftError as error:
        if ending.number is None:
            show_error(error)
        return error.exit_code
    except Exception as error:
        fault = storage_fault(error, Path(), anywhere=True)
        if fault is None and screen.journal is None and ending.number is None:
            raise
        if ending.number is None:
            show_error(fault) if fault is not None else show_crash(error)
        return ExitCode.FAILED if fault is None else fault.exit_code


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Options of `heft` itself."""
    if show:
        screen.print(importlib.metadata.version("heft"))
        raise typer.Exit


@app.command()
def simulate(
    source: Annotated[Source, typer.Argument(help="Where products and relevance come from.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; replaces an earlier simulation."),
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the source.")] = None,
    sessions: Annotated[int, typer.Option(help="Result pages.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.", min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Another setting, as key=value.")
    ] = None,
) -> None:
    """Simulate shoppers over a catalogue, with the truth kept in a folder of its own."""
    from pydantic import ValidationError

    from heft.simulate import SimulationSettings
    from heft.simulate import simulate as run_simulation

    values: dict[str, Any] = {"source": source, "data": str(data) if data else None}
    values |= {"sessions": sessions, "seed": seed, **pairs(set_ or [])}
    try:
        settings = SimulationSettings.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{key}={fault['input']!r}: {said}" if key else said) from error
    with writing_to(out):
        counts = run_simulation(settings, out)
    for name, count in counts.items():
        screen.print(f"{name.replace('_', ' '):<22}{count:>12,}")
    screen.print(f"logs in {out}", markup=False)


@app.command(epilog=f"Exit codes:\n\n{exit_code_lines()}")
def run(
    config: Config,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Run the street: logs in, a judged and pushed model out."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.street import run_street

    run_street(street)


@app.command()
def ingest(
    config: Config,
    check: Annotated[
        bool, typer.Option("--check", help="Read a sample and say what would be done.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the examples, if not the run's.")
    ] = None,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Read, join and split the logs of a config, and nothing after that."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.ingesting import check_logs, ingest_logs

    if check:
        check_logs(street)
    else:
        ingest_logs(street, out)


@app.command()
def tune(
    config: Config,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    trials: Annotated[
        int | None, typer.Option(help="Models to train at most, if not the config's.")
    ] = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Search model settings on the weighted examples; writes tuned.yaml, for `run --with`."""
    asked = overrides(set_, name, span) | ({} if trials is None else {"tune.trials": trials})
    street = street_of(config, runs, with_, asked, verbose)
    from pipeline.tuning import run_tune

    run_tune(street)


@app.command()
def finetune(
    config: Config,
    runs: RunsDir = RUNS,
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
    log_format: LogFormat = "text",
) -> None:
    """Fine-tune the text encoder on the log's clicks; writes finetuned.yaml, for `run --with`."""
    street = street_of(config, runs, with_, overrides(set_, name, span), verbose)
    from pipeline.finetuning import run_finetune

    run_finetune(street)


for command in (
    cli_after.report,
    cli_after.compare,
    cli_after.predict,
    cli_after.explain,
    cli_after.lineage,
    cli_after.rollback,
    cli_operations.clean,
    cli_serving.score,
    cli_serving.stream,
):
    app.command()(command)
app.command("compile")(cli_scale.compile_)
app.add_typer(cli_schema.app, name="schema")


if __name__ == "__main__":
    main()
