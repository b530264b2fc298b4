"""The records of a run, opened: the one place that reads their password."""

import os
import time
from pathlib import Path

from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from heft.errors import ConfigError, InputError
from pipeline.metadata import MetadataSettings, connection, read_settings

__all__ = ["open_records", "prepare_records", "with_password"]

_TRIES, _SECONDS_BETWEEN = 10, 2.0


def with_password(config: pb.ConnectionConfig, settings: MetadataSettings) -> pb.ConnectionConfig:
    """A copy that can be connected with.

    Raises:
        ConfigError: the password's variable is not set.
    """
    made = pb.ConnectionConfig()
    made.CopyFrom(config)
    if settings.engine == "mysql":
        password = os.environ.get(settings.password_variable)
        if password is None:
            raise ConfigError(
                f"no password for {settings.place}: expected it in the environment variable "
                f"{settings.password_variable}, which is not set"
            )
        made.mysql.password = password
        # Transactions of runs at one time wait for each other, and one of two may have to go again.
        made.retry_options.max_num_retries = 10
    return made


def prepare_records(settings: MetadataSettings, sqlite_path: str) -> None:
    """Makes the tables of a database that many runs share, before any of them needs one.

    Raises:
        ConfigError: it cannot be reached, or not with this user and password.
    """
    if settings.engine == "sqlite":
        return
    config = with_password(connection(settings, sqlite_path), settings)
    for left in reversed(range(_TRIES)):
        try:
            metadata_store.MetadataStore(config)
            return
        except (errors.StatusError, RuntimeError) as error:
            # The client does not say why it cannot connect.
            unreached = "mysql_real_connect" in str(error)
            # Otherwise another run may be making the same tables, one after the other.
            if unreached or not left:
                raise ConfigError(
                    f"the metadata at {settings.place} cannot be used"
                    f"{'' if unreached else f' ({_first(error)})'}: expected a running server, an "
                    "existing database, and the password of its user in "
                    f"{settings.password_variable}"
                ) from None
        time.sleep(_SECONDS_BETWEEN)


def open_records(run_dir: Path) -> metadata_store.MetadataStore:
    """The records of a run, to read.

    Raises:
        InputError: they are gone, or cannot be reached.
    """
    settings, path = read_settings(run_dir), run_dir / "metadata.db"
    config = connection(settings, str(path))
    if settings.engine == "sqlite":
        if not path.is_file():
            raise InputError(f"{path} is not there: expected the metadata of a run")
        config.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READONLY
        return metadata_store.MetadataStore(config)
    prepare_records(settings, str(path))
    return metadata_store.MetadataStore(with_password(config, settings))


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
