"""`heft run`: config in, a finished run with its summary and report out."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console
from rich.markup import escape

from heft.errors import ConfigError
from heft.importance import names
from heft.logs import LogsSettings, Preflight, input_fingerprint, preflight
from heft.report.files import write_run
from heft.run_lock import alone
from heft.screen import journal_of, tell
from heft.serving_settings import RANKINGS_FILE
from heft.storage import check_space
from heft.versions import REFUSED_FILE
from heft.whole_file import write_whole
from pipeline.base_model import with_base_model
from pipeline.beam import check_engine
from pipeline.config import PipelineConfig, load
from pipeline.digest import source_digest
from pipeline.metadata import write_settings
from pipeline.places import Places
from pipeline.progress import Progress, print_summary
from pipeline.run_metadata import prepare_records
from pipeline.run_notify import notified
from pipeline.schema_files import read_schema, stage_schema
from pipeline.simulating import simulate_logs

__all__ = [
    "Prepared", "Street", "logs_of", "places_of", "prepare", "run_facts", "run_street",
    "tell_of_absent",
]  # fmt: skip

_SIMULATED_KEY = "simulated shoppers are not people"
_PACKAGES = ("heft", "tfx", "tensorflow", "keras", "keras-hub", "apache-beam")


@dataclass(frozen=True)
class Street:
    """What a command was told.

    Attributes:
        config_path: the YAML file.
        runs: folder that holds all runs.
        data_dir: folder of downloaded data sets.
        overlays: YAML files laid over the config.
        overrides: values by dotted key.
        console: to print to.
        verbose: let the engines speak.
    """

    config_path: Path
    runs: Path
    data_dir: Path
    overlays: tuple[Path, ...]
    overrides: dict[str, Any]
    console: Console
    verbose: bool = False

    def load(self, run_dir: Path | None = None) -> PipelineConfig:
        """The config, with the overlays and the overrides."""
        return load(
            self.config_path,
            run_dir=run_dir,
            data_dir=self.data_dir,
            overlays=self.overlays,
            overrides=self.overrides,
        )

    @property
    def run_dir(self) -> Path:
        """The folder of the run; it may not be there yet."""
        return (self.runs / self.load().name).absolute()

    def alone(self, doing: str) -> AbstractContextManager[int]:
        """Holds the lock of the run's folder; see `heft.run_lock.alone`.

        A config with a fault is found before there is a folder.
        """
        run_dir = self.run_dir
        if journal := journal_of(self.console):
            journal.run = run_dir.name
        self.load(run_dir)
        return alone(run_dir, doing)


@dataclass(frozen=True)
class Prepared:
    """A config and logs that can be run: nothing is wrong that can be found beforehand.

    Attributes:
        config: every setting.
        run_dir: of the run.
        span: of the logs.
        fingerprint: of the logs.
        schema: the reviewed schema; None where the config names none.
    """

    config: PipelineConfig
    run_dir: Path
    span: int
    fingerprint: str
    schema: str | None

    def places(self) -> Places:
        """The folders of the run, which is made."""
        serving = self.run_dir / "serving"
        serving.mkdir(parents=True, exist_ok=True)
        write_settings(self.config.metadata, self.run_dir)
        # For those who ask the model by a ranking's name.
        rankings = json.dumps(self.config.serving.rankings, indent=1)
        write_whole(serving / RANKINGS_FILE, rankings)
        return places_of(self.run_dir, stage_schema(self.schema, self.run_dir))


def run_street(street: Street) -> dict[str, Any]:
    """Runs a config to its end and returns the summary, which is also `summary.json`.

    Everything that can be wrong with config and logs is found before anything is
    written. A run that stopped goes on where it stopped when it is repeated.

    Raises:
        InputError: the config or the logs cannot be used.
        GateError: a gate stopped the run.
        LockedError: another command is at work in the run's folder.
        StorageError: a disk is full, or the folder cannot be written.
    """
    config = street.load(street.run_dir)
    with notified(config, street.console) as told, street.alone("heft run"):
        told.ended_with(_run(street))
    return told.summary


def _run(street: Street) -> dict[str, Any]:
    ready = prepare(street)
    facts = run_facts(ready, street)
    # TFX, which takes its time to import.
    from pipeline.pipeline import create_pipeline
    from pipeline.running import run_nodes

    pipeline = create_pipeline(ready.config, ready.places(), ready.fingerprint, json.dumps(facts))
    return _finish(ready.run_dir, run_nodes(pipeline, ready, street), street.console)


def prepare(street: Street) -> Prepared:
    """Loads the config, simulates its logs if it asks for that, and looks at them.

    To be called by who is alone in the run's folder.

    Raises:
        InputError: the config or the logs cannot be used.
    """
    run_dir = street.run_dir
    config = street.load(run_dir)
    _check_estimators(config)
    config.model.tracking.check()
    check_engine(config.beam)
    prepare_records(config.metadata)
    if config.gate.serving is not None:
        from heft.gate.served import serving_fingerprint  # TFDV, which takes its time to import

        serving_fingerprint(config.gate.serving)
    config = with_base_model(config)
    schema_text = read_schema(config)
    _bring_logs(config, street.console)
    looked = preflight(config.logs)
    tell_of_absent(config, looked, street.console)
    if few := check_space(run_dir):
        tell(street.console, "warning", f"  [yellow]![/] {escape(few)}", "warning")
    return Prepared(config, run_dir, looked.span, input_fingerprint(config.logs), schema_text)


def tell_of_absent(config: PipelineConfig, looked: Preflight, console: Console) -> None:
    """Names the columns that the model is to see and no row of the log has."""
    asked = (*config.transform.categorical, *config.transform.numeric)
    for name in dict.fromkeys(asked):
        if name not in looked.columns:
            said = (
                f"no stream has the column {name!r}: the model does without; map it under "
                "`columns`, or take it out of `transform`"
            )
            tell(console, "warning", f"  [yellow]![/] {escape(said)}", "warning")


def logs_of(street: Street) -> tuple[Path, LogsSettings]:
    """The run's folder, and the logs of a config, which are there to be read.

    Raises:
        InputError: the config cannot be used.
    """
    run_dir = street.run_dir
    config = street.load(run_dir)
    _bring_logs(config, street.console)
    return run_dir, config.logs


def _bring_logs(config: PipelineConfig, console: Console) -> None:
    """Simulates the logs if the config asks for that, and lets Beam find remote ones."""
    if config.simulate is not None:
        # Simulated shoppers are nobody's secret; a key of the team's own is used if there is one.
        os.environ.setdefault(config.logs.privacy.key_variable, _SIMULATED_KEY)
        simulate_logs(config, console)
    FileSystems.set_options(PipelineOptions(list(config.beam.arguments)))


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
        "seconds": _seconds(run_dir, progress),
    }
    summary = write_run(facts, run_dir)
    print_summary(console, facts, summary)
    refused = Path(progress.outputs["Pusher"]["pushed_model"]) / REFUSED_FILE
    if refused.is_file():
        tell(console, "warning", f"not pushed: {escape(refused.read_text())}", "warning")
    return summary


def _seconds(run_dir: Path, progress: Progress) -> dict[str, float]:
    """By node; what was taken from the cache keeps the time that it took when it ran."""
    before = run_dir / "summary.json"
    earlier = json.loads(before.read_text())["seconds"] if before.is_file() else {}
    return {
        node: round(seconds, 1) if seconds else earlier.get(node, 0.0)
        for node, seconds in progress.seconds.items()
    }


def places_of(run_dir: Path, schema_file: str | None = None) -> Places:
    """Where a run keeps things, in its folder."""
    return Places(
        schema_file=schema_file,
        root=str(run_dir / "artifacts"),
        metadata=str(run_dir / "metadata.db"),
        serving=str(run_dir / "serving" / "heft"),
    )


def run_facts(ready: Prepared, street: Street) -> dict[str, Any]:
    """What the report says of the run itself."""
    config = ready.config
    dumped = config.model_dump_json(exclude={"tune", "notify"})
    return {
        "name": config.name,
        "lineage": {
            "seed": config.seed,
            "span": ready.span,
            "config": " + ".join(p.name for p in (street.config_path, *street.overlays)),
            "config_digest": hashlib.sha256(dumped.encode()).hexdigest()[:16],
            "source_digest": source_digest("heft.report.collect", "heft.logs.ingest"),
            "data_digest": ready.fingerprint[:16],
            "versions": {package: _version(package) for package in _PACKAGES}
            | {"python": sys.version.split()[0]},
        },
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
