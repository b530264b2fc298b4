"""Logs of a simulated shop, made before a run that asks for them."""

import hashlib
import json
from pathlib import Path

from rich.console import Console

from heft.simulate import simulate
from heft.whole_file import write_whole
from pipeline.config import PipelineConfig
from pipeline.digest import source_digest

__all__ = ["simulate_logs"]


def simulate_logs(config: PipelineConfig, console: Console) -> None:
    """Makes the logs, unless those of these settings and this code are there."""
    settings = config.simulate
    assert settings is not None
    out = Path(config.logs.root)
    made_by = settings.model_dump(mode="json") | {
        "source": source_digest("heft.simulate.simulation"),
        "data_digest": _folder_digest(settings.data),
    }
    marker = out / "made_by.json"
    if marker.is_file() and json.loads(marker.read_text()) == made_by:
        return
    with console.status(f"simulating {settings.sessions:,} sessions of {settings.source}"):
        counts = simulate(settings, out)
    write_whole(marker, json.dumps(made_by))
    console.print(
        f"simulated {counts['impressions']:,} impressions, {counts['clicks']:,} clicks, "
        f"{counts['conversions']:,} conversions"
    )


def _folder_digest(folder: str | None) -> str | None:
    """SHA-256 over the files of a data folder; None for the built-in shop."""
    if folder is None or not Path(folder).is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
