"""Points version labels at versions, in a models.config that servers poll.

    python -m serving.labels serving/models.config stable=1732385000 canary=1732388600
    python -m serving.labels serving/models.config stable=1732388600 canary=

The labelled versions are then the ones served, so that a new push waits until
a label is moved to it. Without labels the newest version is served.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from heft.errors import ConfigError

__all__ = ["labelled_versions", "main", "move_labels"]


def move_labels(path: Path, labels: Mapping[str, int | None], model: str = "heft") -> None:
    """Writes labels into a models.config; labels that are not named stay.

    Args:
        path: a ModelServerConfig in text format, written in place, since a bind-mounted
            file that is replaced would not be seen.
        labels: version by label; None takes the label away.
        model: whose labels.

    Raises:
        ConfigError: the file cannot be read, or does not name the model.
    """
    server = _read(path)
    config = _model(server, path, model)
    for label, version in labels.items():
        config.version_labels.pop(label, None)
        if version is not None:
            config.version_labels[label] = version
    config.ClearField("model_version_policy")
    if config.version_labels:
        versions = sorted(set(config.version_labels.values()))
        config.model_version_policy.specific.versions.extend(versions)
    else:
        config.model_version_policy.latest.num_versions = 1
    path.write_text(text_format.MessageToString(server))


def labelled_versions(path: str | Path, model: str = "heft") -> set[int]:
    """The versions that the labels of a models.config point at.

    Raises:
        ConfigError: the file cannot be read, or does not name the model.
    """
    return set(_model(_read(Path(path)), Path(path), model).version_labels.values())


def _read(path: Path) -> model_server_config_pb2.ModelServerConfig:
    server = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(), server)
    except (OSError, text_format.ParseError) as error:
        raise ConfigError(f"{path} is not a models.config: {error}") from error
    return server


def _model(
    server: model_server_config_pb2.ModelServerConfig, path: Path, model: str
) -> model_server_config_pb2.ModelConfig:
    for config in server.model_config_list.config:
        if config.name == model:
            return config
    raise ConfigError(f"{path} does not name the model {model!r}: add it, or name another")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="serving.labels", description=__doc__.split("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("labels", nargs="+", metavar="LABEL=VERSION", help="no version: remove")
    parser.add_argument("--model", default="heft")
    options = parser.parse_args(arguments)
    try:
        move_labels(options.config, dict(map(_parse, options.labels)), options.model)
    except ConfigError as error:
        print(f"serving.labels: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _parse(argument: str) -> tuple[str, int | None]:
    label, separator, version = argument.partition("=")
    if not label or not separator or (version and not version.isdecimal()):
        raise ConfigError(f"{argument!r}: expected LABEL=VERSION, such as canary=1732388600")
    return label, int(version) if version else None


if __name__ == "__main__":
    sys.exit(main())
