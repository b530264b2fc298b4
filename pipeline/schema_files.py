"""The reviewed schema: from git, checked, and laid where TFX's cache sees that it changed."""

import hashlib
from pathlib import Path

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from heft.errors import ConfigError
from heft.features import SAMPLING
from heft.whole_file import write_whole
from pipeline.config import PipelineConfig

__all__ = ["SCHEMA_FILE", "read_schema", "schema_path", "stage_schema"]

SCHEMA_FILE = "schema.pbtxt"

# What ingest writes beside a row if it samples, which no reviewed schema need have.
_SAMPLING_FEATURE = f'''
feature {{
  name: "{SAMPLING}"
  type: FLOAT
  presence {{ min_count: 0 }}
  value_count {{ min: 1 max: 1 }}
  float_domain {{ min: 0 max: 1 }}
}}
'''


def schema_path(config: PipelineConfig) -> Path | None:
    """Where the schema from git lies; None where a config names none.

    Raises:
        ConfigError: it is not there.
    """
    if config.schema_dir is None:
        return None
    path = Path(config.schema_dir) / SCHEMA_FILE
    if not path.is_file():
        raise ConfigError(
            f"schema_dir={config.schema_dir!r}: no schema.pbtxt there; name the folder that holds "
            "it, have one written by `heft schema infer`, or leave schema_dir out to have one "
            "inferred by each run"
        )
    return path


def read_schema(config: PipelineConfig) -> str | None:
    """The schema from git, with what ingest adds; None where a config names none.

    Raises:
        ConfigError: it is not there, or is none.
    """
    path = schema_path(config)
    if path is None:
        return None
    text = path.read_text(encoding="utf-8")
    try:
        schema = text_format.Parse(text, schema_pb2.Schema())
    except text_format.ParseError as error:
        raise ConfigError(f"{path} is not a schema: {error}") from error
    if config.logs.negative_rate < 1 and SAMPLING not in {own.name for own in schema.feature}:
        return text + _SAMPLING_FEATURE
    return text


def stage_schema(text: str | None, run_dir: Path) -> str | None:
    """A copy under its digest: TFX's cache knows the schema by its path alone."""
    if text is None:
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = run_dir / "schema" / digest / SCHEMA_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return str(path)
