"""Estimators by name, as a pipeline config names them."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from heft.errors import ConfigError

__all__ = ["create", "names", "parameters", "register"]

_T = TypeVar("_T", bound=type)
_REGISTRY: dict[str, type] = {}


def register(name: str) -> Callable[[_T], _T]:
    """Class decorator: makes an estimator reachable as `name`."""

    def add(cls: _T) -> _T:
        if name in _REGISTRY:
            raise ConfigError(f"estimator {name!r} is registered twice")
        _REGISTRY[name] = cls
        return cls

    return add


def names() -> list[str]:
    """All registered names, sorted."""
    return sorted(_REGISTRY)


def parameters(name: str) -> list[str]:
    """The settings that the estimator `name` takes.

    Raises:
        ConfigError: unknown name.
    """
    if name not in _REGISTRY:
        raise ConfigError(f"Expected one of {names()}, received: estimator={name!r}")
    return list(inspect.signature(_REGISTRY[name]).parameters)


def create(name: str, **settings: Any) -> Any:
    """An unfitted estimator.

    Raises:
        ConfigError: unknown name, or a setting the estimator does not take.
    """
    parameters(name)
    try:
        return _REGISTRY[name](**settings)
    except TypeError as error:
        raise ConfigError(f"estimator {name!r}: {error}") from error
