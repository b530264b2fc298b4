"""The base of every settings model: frozen, and closed to unknown keys."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """A group of settings. Each room of the library keeps its own subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid")
