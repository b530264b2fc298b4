"""What may be set when a compiled pipeline is submitted, and comes from its config otherwise."""

from typing import Any

from pipeline.config import PipelineConfig
from pipeline.thresholds import Thresholds

__all__ = ["JUDGED_BY", "from_parameters", "runtime_parameters"]

# Settings of two values are two parameters.
_ENDS = ("lowest", "highest")


def _thresholds(thresholds: Thresholds) -> dict[str, float]:
    values: dict[str, float] = {}
    for name, value in thresholds.model_dump().items():
        if isinstance(value, tuple):
            values |= {f"{name}_{end}": v for end, v in zip(_ENDS, value, strict=True)}
        else:
            values[name] = value
    return values


JUDGED_BY = tuple(_thresholds(Thresholds()))


def runtime_parameters(config: PipelineConfig) -> dict[str, str | int | float]:
    """The parameters of a pipeline and what they are if nobody sets them.

    | parameter | node |
    |---|---|
    | `span` | LogExampleGen |
    | `sessions`, of a simulation | LogExampleGen |
    | those of `thresholds` | Evaluator |
    """
    values: dict[str, str | int | float] = {"span": str(config.logs.span)}
    if config.simulate is not None:
        values["sessions"] = config.simulate.sessions
    return values | _thresholds(config.thresholds)


def from_parameters(asked: dict[str, Any]) -> dict[str, Any]:
    """Settings of `Thresholds` from the parameters that are of them."""
    settings: dict[str, Any] = {}
    for name in Thresholds.model_fields:
        if name in asked:
            settings[name] = asked[name]
        elif ends := [asked[f"{name}_{end}"] for end in _ENDS if f"{name}_{end}" in asked]:
            settings[name] = ends
    return settings
