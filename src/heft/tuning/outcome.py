"""What a search came to: an overlay of settings for the pipeline."""

from pathlib import Path
from typing import Any

import yaml

from heft.tuning.search import Trial, best

__all__ = ["differing", "write_overlay"]


def differing(trial: Trial, own: Trial) -> dict[str, Any]:
    """The settings of a trial that are not those of the config."""
    return {
        name: value
        for name, value in trial.changes.items()
        if name not in own.changes or own.changes[name] != value
    }


def write_overlay(trials: list[Trial], path: Path) -> Trial:
    """Writes the settings of the best trial as YAML that a config can be laid under.

    All that were searched and have an effect are in it, the config's own values too.

    Returns:
        The best trial.
    """
    found, own = best(trials), trials[0]
    before = "no loss" if own.loss is None else f"{own.loss:.5f}"
    head = (
        f"# Trial {found.number + 1} of {len(trials)}: loss on tune {found.loss:.5f}; "
        f"{before} with the config's own settings.\n"
    )
    body = yaml.safe_dump({"model": found.changes}, default_flow_style=None, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(head + body, encoding="utf-8")
    draft.replace(path)
    return found
