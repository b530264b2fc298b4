"""Commands that take the street from one machine to many."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from heft.cli_options import RUNS, Config, RunName, Set, Span, Verbose, With, overrides, street_of

__all__ = ["compile_"]


def compile_(
    config: Config,
    out: Annotated[Path, typer.Option("--out", help="File to write: .yaml; .json for Vertex.")],
    target: Annotated[
        Literal["kubeflow", "vertex"], typer.Option(help="Where it is to run.")
    ] = "kubeflow",
    name: RunName = None,
    span: Span = None,
    with_: With = None,
    set_: Set = None,
    verbose: Verbose = False,
) -> None:
    """Compile the street for Kubeflow Pipelines or Vertex AI Pipelines."""
    street = street_of(config, RUNS, with_, overrides(set_, name, span), verbose)
    from pipeline.run_kubeflow import compile_street

    compile_street(street, out, target)
