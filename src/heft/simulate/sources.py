"""From the name of a source to its judgements."""

from collections.abc import Callable
from pathlib import Path

from heft.errors import ConfigError, DataError
from heft.simulate.builtin import builtin_judgements
from heft.simulate.chorus import read_chorus
from heft.simulate.home_depot import read_home_depot
from heft.simulate.judgements import Judgements
from heft.simulate.pairs import read_pairs
from heft.simulate.settings import SimulationSettings

__all__ = ["load_judgements"]

_READERS: dict[str, Callable[[Path], Judgements]] = {
    "chorus": read_chorus,
    "home_depot": read_home_depot,
    "pairs": read_pairs,
}


def load_judgements(settings: SimulationSettings) -> Judgements:
    """The judgements of `settings.source`.

    Raises:
        ConfigError: `data` is missing, or given to the built-in shop.
        DataError: the folder is missing or of another shape.
    """
    if settings.source == "builtin":
        if settings.data is not None:
            raise ConfigError(
                f"data={settings.data!r} means nothing to source='builtin', which brings its own "
                "catalogue; leave data out, or name another source"
            )
        return builtin_judgements()
    if settings.data is None:
        raise ConfigError(f"source={settings.source!r} needs data, the folder it is read from")
    folder = Path(settings.data)
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: expected the data of source={settings.source!r} there; "
            "correct data"
        )
    return _READERS[settings.source](folder)
