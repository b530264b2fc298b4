"""`heft schema`: the reviewed schema of a config, made from data and kept up with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.markup import escape

from heft.errors import ConfigError, GateError, InputError
from heft.whole_file import write_whole
from pipeline.config import PipelineConfig
from pipeline.schema_files import SCHEMA_FILE, schema_path
from pipeline.street import Prepared, Street, prepare

__all__ = ["accept_schema", "diff_schema", "infer_schema"]


@dataclass(frozen=True)
class _Observed:
    """A span as ingest and StatisticsGen left it."""

    ready: Prepared
    statistics: dict[str, Any]
    shards: dict[str, list[str]]

    @property
    def rows(self) -> int:
        """Of the splits that have statistics."""
        from heft.gate.statistics import rows_of

        return sum(rows_of(one) for one in self.statistics.values())


def infer_schema(street: Street, out: Path | None, force: bool, values: int) -> Path:
    """Writes a schema that a span of the config's log keeps to; returns where it lies.

    Args:
        street: what the command was told.
        out: the folder to write to, if it is not the config's `schema_dir`.
        force: replace one that is there.
        values: most values of a column whose values are listed.

    Raises:
        InputError: config or logs cannot be used, or there is a schema already.
    """
    config = street.load()
    if out is None and config.schema_dir is None:
        raise ConfigError(
            "the config names no schema_dir: say --out FOLDER, and name that folder as schema_dir"
        )
    path = (out or Path(str(config.schema_dir))) / SCHEMA_FILE
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already: `heft schema diff` says what the data has that it has "
            "not; --force writes a new one in its place"
        )
    # The one that is to be written need not be there.
    observed = _observe(replace(street, overrides={**street.overrides, "schema_dir": None}))
    from heft.gate.schema_edit import inferred

    ready = observed.ready
    text = inferred(
        observed.statistics, ready.span, _columns(ready.config), ready.config.gate, values
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    features = text.count("\nfeature {")
    street.console.print(
        f"{features} features of {observed.rows:,} rows, span {ready.span}: {path}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if config.schema_dir is None:
        street.console.print(f"name it in the config: schema_dir: {path.parent}", markup=False)
    return path


def diff_schema(street: Street, strict: bool) -> int:
    """Prints in which features the newest data differ from the schema; returns how many.

    Args:
        street: what the command was told.
        strict: a difference is an error.

    Raises:
        InputError: config or logs cannot be used, or the config has no schema.
        GateError: there is a difference, and `strict`.
    """
    path, observed = _reviewed(street)
    from heft.gate.offences import log_features, with_rows
    from heft.gate.schema_checks import check_schema
    from heft.gate.schema_edit import differences
    from heft.gate.schema_text import parsed

    ready, columns = observed.ready, _columns(observed.ready.config)
    schema = parsed(str(ready.schema), str(path))
    anomalies = []
    for split, statistics in observed.statistics.items():
        findings = check_schema(split, statistics, schema, columns.pii)
        features, shown = log_features(columns), ready.config.gate.examples
        anomalies += with_rows(findings, observed.shards[split], features, columns.pii, shown)
    found = differences(anomalies)
    say, seen = street.console.print, f"span {ready.span}, {observed.rows:,} rows"
    if not found:
        say(f"{seen}: as {path} says", soft_wrap=True, markup=False)
        return 0
    say(f"{seen}, and {path}:", soft_wrap=True, markup=False)
    for difference in found:
        for line in difference.lines:
            say(f"  {escape(line)}", soft_wrap=True)
    names = " ".join(one.feature for one in found)
    say(f"accept  heft schema accept {street.config_path} {names}", soft_wrap=True, markup=False)
    if strict:
        raise GateError(f"{path} is not what span {ready.span} is: {names}")
    return len(found)


def accept_schema(street: Street, names: Sequence[str], everything: bool) -> Path:
    """Widens the schema by the features named, or by all that differ; returns where it lies.

    Raises:
        InputError: config or logs cannot be used, the config has no schema, or a feature has
            nothing to accept.
    """
    if bool(names) == everything:
        raise InputError("name the features to accept, or say --all, and not both")
    path, observed = _reviewed(street)
    from heft.gate.schema_checks import check_schema
    from heft.gate.schema_edit import accepted
    from heft.gate.schema_text import parsed

    text = path.read_text(encoding="utf-8")
    config = observed.ready.config
    if everything:
        # With what a run would add to it: columns of sampling are not to be accepted.
        schema = parsed(str(observed.ready.schema), str(path))
        names = list(
            dict.fromkeys(
                finding.anomaly.feature
                for split, statistics in observed.statistics.items()
                for finding in check_schema(split, statistics, schema)
            )
        )
    new = accepted(text, observed.statistics, names, _columns(config), config.gate)
    write_whole(path, new)
    said = ", ".join(names) or "nothing to accept"
    street.console.print(f"{said}: {path}, for review", soft_wrap=True, markup=False)
    return path


def _reviewed(street: Street) -> tuple[Path, _Observed]:
    """Where the schema lies, and the data, whose schema it is."""
    path = schema_path(street.load())
    if path is None:
        raise ConfigError(
            "the config names no schema_dir: `heft schema infer CONFIG --out FOLDER` writes a "
            "schema, and schema_dir names its folder"
        )
    return path, _observe(street)


def _observe(street: Street) -> _Observed:
    """Runs LogExampleGen and StatisticsGen, from the cache where it can."""
    with street.alone("heft schema"):
        return _run(street)


def _run(street: Street) -> _Observed:
    ready = prepare(street)
    from heft.examples import shard_paths
    from heft.gate.statistics import load_statistics

    # TFX, which takes its time to import.
    from pipeline.pipeline import create_statistics_pipeline
    from pipeline.running import run_nodes

    pipeline = create_statistics_pipeline(ready.config, ready.places(), ready.fingerprint)
    outputs = run_nodes(pipeline, ready, street).outputs
    statistics = load_statistics(outputs["StatisticsGen"]["statistics"])
    examples = outputs["LogExampleGen"]["examples"]
    shards = {split: shard_paths(f"{examples}/Split-{split}") for split in statistics}
    return _Observed(ready, statistics, shards)


def _columns(config: PipelineConfig) -> Any:
    from pipeline.nodes import log_columns

    return log_columns(config, reviewed=True)
