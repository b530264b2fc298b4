"""A MariaDB server of this machine, in a folder, as a user without rights."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.engines.processes import Servers, free_ports, program

__all__ = ["PASSWORD", "Database", "mariadb", "missing"]

PASSWORD = "a password of tests: ü'\"$\\"
_USER, _DATABASE = "heft", "records"


@dataclass(frozen=True)
class Database:
    """A server with an empty database and a user for it.

    Attributes:
        port: on 127.0.0.1.
        socket: for its administrator.
    """

    port: int
    socket: Path

    @property
    def settings(self) -> dict[str, object]:
        """The section `metadata` of a config."""
        return {
            "engine": "mysql", "host": "localhost", "port": self.port, "database": _DATABASE,
            "user": _USER,
        }  # fmt: skip

    def ask(self, sql: str) -> list[list[str]]:
        """Rows of texts."""
        client = [program("mariadb"), "--no-defaults", "-u", "root", "-S", self.socket, "-N", "-B"]
        done = subprocess.run(
            [*map(str, client), _DATABASE], input=sql, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def empty(self) -> None:
        """As it was at first."""
        name = f"`{_DATABASE}`"
        self.ask(f"DROP DATABASE {name}; CREATE DATABASE {name} CHARACTER SET utf8mb4;")


def missing() -> str | None:
    """What a machine lacks for it."""
    if program("mariadbd") and program("mariadb-install-db"):
        return None
    return "no MariaDB; Debian: apt-get install mariadb-server"


@contextmanager
def mariadb(folder: Path) -> Iterator[Database]:
    """Starts the server on a free port, with an empty database."""
    [port] = free_ports(1)
    # Root may not run a server: the package brings a user for it, who has to reach the folder.
    user = "mysql" if os.geteuid() == 0 else None
    data, socket = folder / "data", folder / "s"
    data.mkdir(parents=True)
    if user:
        for each in (folder, data):
            shutil.chown(each, user)
    made = subprocess.run(
        [str(program("mariadb-install-db")), "--no-defaults", f"--datadir={data}",
         "--skip-test-db", "--auth-root-authentication-method=normal"],
        capture_output=True, text=True, check=False, user=user, cwd=folder,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    database = Database(port, socket)
    with Servers(folder) as servers:
        servers.start("mariadbd", [
            program("mariadbd"), "--no-defaults", f"--datadir={data}", f"--socket={socket}",
            f"--pid-file={folder}/pid", f"--port={port}", "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=64M", "--skip-name-resolve",
        ], user=user)  # fmt: skip
        servers.wait(socket.exists, "MariaDB")
        quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        subprocess.run(
            [str(program("mariadb")), "--no-defaults", "-u", "root", "-S", str(socket)],
            input=f"CREATE DATABASE {_DATABASE} CHARACTER SET utf8mb4;"
            f"CREATE USER '{_USER}'@'127.0.0.1' IDENTIFIED BY '{quoted}';"
            f"GRANT ALL ON {_DATABASE}.* TO '{_USER}'@'127.0.0.1';",
            text=True, check=True,
        )  # fmt: skip
        yield database
