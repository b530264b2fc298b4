"""`heft run`: config in, a finished run with its summary and report out."""

import datetime
import hashlib
import importlib.metadata
import json
import logging
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from heft.console import log_to_file
from heft.errors import ConfigError, HeftError
from heft.importance import names
from heft.logs import input_fingerprint, preflight
from heft.report.files import write_run
from heft.simulate import simulate
from pipeline.config import PipelineConfig, load
from pipeline.digest import source_digest
from pipeline.pipeline import Places, create_pipeline
from pipeline.progress import Progress, print_summary
from pipeline.run_local import StreetRunner

__all__ = ["run_street"]

_PACKAGES = ("heft", "tfx", "tensorflow", "keras", "keras-hub", "apache-beam")


def run_street(
    config_path: Path,
    runs: Path,
    *,
    data_dir: Path,
    overrides: dict[str, Any],
    console: Console,
    verbose: bool = False,
) -> dict[str, Any]:
    """Runs a config to its end and returns the summary, which is also `summary.json`.

    Everything that can be wrong with config and logs is found before anything is
    written. A run that stopped goes on where it stopped when it is repeated.

    Raises:
        InputError: the config or the logs cannot be used.
        GateError: a gate stopped the run.
    """
    name = overrides.get("name") or load(config_path, data_dir=data_dir, overrides=overrides).name
    run_dir = (runs / name).absolute()
    config = load(config_path, run_dir=run_dir, data_dir=data_dir, overrides=overrides)
    _check_estimators(config)
    if config.simulate is not None:
        _simulate(config, run_dir, console)
    looked = preflight(config.logs)
    fingerprint = input_fingerprint(config.logs)
    facts = _run_facts(config, config_path, looked.span, fingerprint)
    pipeline = create_pipeline(config, _places(run_dir), fingerprint, json.dumps(facts))
    run_dir.mkdir(parents=True, exist_ok=True)
    log_path = run_dir / "logs.txt"
    log_to_file(log_path, verbose)
    progress = Progress(console, config.name)
    try:
        StreetRunner(progress.started, progress.done).run(pipeline)
    except HeftError:
        progress.failed()
        raise
    except Exception as error:
        progress.failed()
        raise _as_heft_error(error, progress.current, log_path) from error
    finally:
        progress.close()
    return _finish(run_dir, progress, console)


def _check_estimators(config: PipelineConfig) -> None:
    """An unknown name would otherwise be found only when the node is reached."""
    for name in (*config.importance.quality, *config.importance.value):
        if name not in names():
            raise ConfigError(f"Expected one of {names()}, received: estimator={name!r}")


def _finish(run_dir: Path, progress: Progress, console: Console) -> dict[str, Any]:
    report = Path(progress.outputs["ReportGen"]["report"])
    facts = json.loads((report / "facts.json").read_text(encoding="utf-8"))
    facts |= {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": {node: round(seconds, 1) for node, seconds in progress.seconds.items()},
    }
    summary = write_run(facts, run_dir)
    print_summary(console, facts, summary)
    return summary


def _simulate(config: PipelineConfig, run_dir: Path, console: Console) -> None:
    """Makes the logs, unless those of these settings and this code are there."""
    settings = config.simulate
    assert settings is not None
    out = Path(config.logs.root)
    made_by = settings.model_dump(mode="json") | {
        "source": source_digest("heft.simulate.simulation")
    }
    marker = out / "made_by.json"
    if marker.is_file() and json.loads(marker.read_text()) == made_by:
        return
    with console.status(f"simulating {settings.sessions:,} sessions of {settings.source}"):
        counts = simulate(settings, out)
    marker.write_text(json.dumps(made_by))
    console.print(
        f"simulated {counts['impressions']:,} impressions, {counts['clicks']:,} clicks, "
        f"{counts['conversions']:,} conversions"
    )


def _places(run_dir: Path) -> Places:
    return Places(
        root=str(run_dir / "artifacts"),
        metadata=str(run_dir / "metadata.db"),
        serving=str(run_dir / "serving" / "heft"),
    )


def _run_facts(
    config: PipelineConfig, config_path: Path, span: int, fingerprint: str
) -> dict[str, Any]:
    dumped = config.model_dump_json()
    return {
        "name": config.name,
        "lineage": {
            "seed": config.seed,
            "span": span,
            "config": config_path.name,
            "config_digest": hashlib.sha256(dumped.encode()).hexdigest()[:16],
            "source_digest": source_digest("heft.report.collect", "heft.logs.ingest"),
            "data_digest": fingerprint[:16],
            "versions": {package: _version(package) for package in _PACKAGES}
            | {"python": sys.version.split()[0]},
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _as_heft_error(error: Exception, node: str, log_path: Path) -> HeftError:
    """The Heft error that an engine wrapped, or one that names the node and the log."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HeftError):
            return cause
        cause = cause.__cause__ or cause.__context__
    logging.getLogger(__name__).error("%s failed", node, exc_info=error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    # Some engines put a heading first and what happened last.
    what = f"{lines[0]} {lines[-1]}" if lines[0].endswith(":") else lines[0]
    return HeftError(
        f"{node} failed: {type(error).__name__}: {what}\n"
        f"The whole log is in {log_path}; run again to go on from this node."
    )
