"""`metadata:` in a config: where a run's records are kept, a file of its own or a database."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from ml_metadata.proto import metadata_store_pb2 as pb
from pydantic import Field, ValidationError, model_validator

from heft.errors import InputError
from heft.settings import Settings

__all__ = ["MetadataSettings", "connection", "read_settings", "write_settings"]

_FILE = "metadata.json"
_MYSQL_ONLY = ("host", "port", "database", "user", "password_variable", "ca")


class MetadataSettings(Settings):
    """Where ML Metadata keeps executions, artifacts and what led to what.

    Attributes:
        engine: `sqlite`, a file in the run's folder, or `mysql`, which many runs share; MariaDB
            is one too.
        host, port: of the server.
        database: that exists; its tables are made on first use.
        user: with all rights on the database.
        password_variable: the environment variable that holds the password. The password itself
            stands in no file.
        ca: file of the certificate authority of the server, for a connection by TLS.
    """

    engine: Literal["sqlite", "mysql"] = "sqlite"
    host: str | None = None
    port: int = Field(3306, ge=1, le=65_535)
    database: str | None = None
    user: str | None = None
    password_variable: str = Field("HEFT_METADATA_PASSWORD", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ca: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.engine == "sqlite":
            if given := sorted(self.model_fields_set & set(_MYSQL_ONLY)):
                raise ValueError(
                    f"{given} are for engine mysql, and engine is sqlite: leave them out, or set "
                    "engine: mysql"
                )
            return self
        for name in ("host", "database", "user"):
            if not getattr(self, name):
                raise ValueError(f"engine mysql needs {name}, received: {name}=None")
        return self

    @property
    def place(self) -> str:
        """For messages."""
        return f"mysql://{self.user}@{self.host}:{self.port}/{self.database}"


def connection(settings: MetadataSettings, sqlite_path: str) -> pb.ConnectionConfig:
    """How to reach the records, without a password.

    Args:
        settings: of a config.
        sqlite_path: the file, where it is one.
    """
    made = pb.ConnectionConfig()
    if settings.engine == "sqlite":
        made.sqlite.filename_uri = sqlite_path
        made.sqlite.connection_mode = pb.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        return made
    mysql = made.mysql
    # By name the client would take a socket file instead of the port.
    mysql.host = "127.0.0.1" if settings.host == "localhost" else str(settings.host)
    mysql.port, mysql.database, mysql.user = settings.port, settings.database, settings.user
    if settings.ca is not None:
        mysql.ssl_options.ca = settings.ca
        mysql.ssl_options.verify_server_cert = True
    return made


def write_settings(settings: MetadataSettings, run_dir: Path) -> None:
    """Leaves word in a run's folder of where its records are, for commands that have no config."""
    path = run_dir / _FILE
    if settings.engine == "sqlite":
        path.unlink(missing_ok=True)
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings.model_dump(), indent=1), encoding="utf-8")


def read_settings(run_dir: Path) -> MetadataSettings:
    """What `write_settings` left; of a run that left nothing, SQLite.

    Raises:
        InputError: the file was changed by hand.
    """
    path = run_dir / _FILE
    if not path.is_file():
        return MetadataSettings()
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        return MetadataSettings.model_validate(found)
    except (ValueError, ValidationError) as error:
        raise InputError(f"{path} does not say where the records are: {error}") from None
