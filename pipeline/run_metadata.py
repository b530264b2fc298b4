"""The records of a run, opened: the one place that reads their password."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pymysql
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb

from heft.errors import ConfigError, InputError
from pipeline.metadata import MetadataSettings, connection, read_settings

__all__ = ["alone", "open_records", "prepare_records", "with_password"]

_LOCK = "heft makes tables and types"
_SECONDS_TO_CONNECT, _SECONDS_TO_WAIT = 10, 300


def with_password(config: pb.ConnectionConfig, settings: MetadataSettings) -> pb.ConnectionConfig:
    """A copy that can be connected with.

    Raises:
        ConfigError: the password's variable is not set.
    """
    made = pb.ConnectionConfig()
    made.CopyFrom(config)
    if settings.engine == "mysql":
        made.mysql.password = _password(settings)
        # Transactions of runs at one time wait for each other, and one of two may have to go again.
        made.retry_options.max_num_retries = 10
    return made


def prepare_records(settings: MetadataSettings) -> None:
    """Makes the tables of a database that many runs share, before any of them needs one.

    Raises:
        ConfigError: it cannot be reached, or not with this user and password.
    """
    if settings.engine == "mysql":
        with alone(settings):
            metadata_store.MetadataStore(with_password(connection(settings, ""), settings))


@contextmanager
def alone(settings: MetadataSettings) -> Iterator[None]:
    """While no other run makes tables or types in the database.

    ML Metadata looks whether they are there and makes them in two steps, so that two runs would
    stop each other, or make a type twice and lose sight of half of what is of it.

    Raises:
        ConfigError: the database cannot be reached, or not with this user and password.
    """
    mysql = connection(settings, "").mysql
    try:
        session = pymysql.connect(
            host=mysql.host,
            port=mysql.port,
            user=mysql.user,
            # As bytes, as ML Metadata sends it; a text would go as latin1.
            password=_password(settings).encode(),
            database=mysql.database,
            connect_timeout=_SECONDS_TO_CONNECT,
            ssl_ca=settings.ca,
            ssl_verify_cert=True if settings.ca else None,
        )
    except pymysql.Error as error:
        raise ConfigError(
            f"the metadata at {settings.place} cannot be used: {error.args[-1]}; expected a "
            f"running server, an existing database, and the password of its user in "
            f"{settings.password_variable}"
        ) from None
    # The lock goes with the session, however that ends.
    with session, session.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", (_LOCK, _SECONDS_TO_WAIT))
        if cursor.fetchone() != (1,):
            raise ConfigError(
                f"the metadata at {settings.place} has been locked by another run for "
                f"{_SECONDS_TO_WAIT} s: end the session that holds the lock {_LOCK!r}"
            )
        yield


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
    prepare_records(settings)
    return metadata_store.MetadataStore(with_password(config, settings))


def _password(settings: MetadataSettings) -> str:
    password = os.environ.get(settings.password_variable)
    if password is None:
        raise ConfigError(
            f"no password for {settings.place}: expected it in the environment variable "
            f"{settings.password_variable}, which is not set"
        )
    return password
