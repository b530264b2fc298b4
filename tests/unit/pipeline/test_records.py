"""Metadata in MySQL, against a real server: what is written is read, and two at once lose nothing.

`make test-mysql` runs this, and the street on it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from pydantic import ValidationError

from heft.errors import ConfigError, InputError
from pipeline.metadata import MetadataSettings, connection, read_settings, write_settings
from pipeline.run_metadata import open_records, prepare_records, with_password
from tests.engines.mariadb import PASSWORD, Database, mariadb, missing

ROOT = Path(__file__).resolve().parents[3]
VARIABLE = "HEFT_METADATA_PASSWORD"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    import tempfile

    if lacking := missing():
        if os.environ.get("CI"):
            pytest.fail(f"NOT TESTED: {lacking}")
        pytest.skip(f"NOT TESTED: {lacking}")
    # Sockets have short names, and pytest's folders are closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with mariadb(Path(folder) / "db") as server:
            yield server


@pytest.fixture
def settings(database: Database, monkeypatch: pytest.MonkeyPatch) -> MetadataSettings:
    database.empty()
    monkeypatch.setenv(VARIABLE, PASSWORD)
    return MetadataSettings.model_validate(database.settings)


def _open(settings: MetadataSettings) -> metadata_store.MetadataStore:
    return metadata_store.MetadataStore(with_password(connection(settings, ""), settings))


def test_what_is_written_is_read_by_a_command_that_knows_the_folder_alone(
    settings: MetadataSettings, database: Database, tmp_path: Path
) -> None:
    prepare_records(settings)
    store = _open(settings)
    kind = store.put_artifact_type(pb.ArtifactType(name="Model", properties={"said": pb.STRING}))
    artifact = pb.Artifact(type_id=kind, uri="/runs/é/電気 🛒")
    artifact.properties["said"].string_value = "Café – 電気 🛒 " + "x" * 200_000
    [made] = store.put_artifacts([artifact])
    write_settings(settings, tmp_path)
    assert PASSWORD not in "".join(path.read_text() for path in tmp_path.iterdir())
    [found] = open_records(tmp_path).get_artifacts_by_id([made])
    assert (found.uri, found.properties) == (artifact.uri, artifact.properties)
    # ML Metadata connects as latin1 and sends UTF-8, as one who looks into its tables has to know.
    [[uri]] = database.ask("SET NAMES latin1; SELECT uri FROM Artifact")
    assert uri == artifact.uri


def test_a_run_says_where_its_records_are_and_one_without_word_has_a_file(
    settings: MetadataSettings, tmp_path: Path
) -> None:
    assert read_settings(tmp_path).engine == "sqlite"
    write_settings(settings, tmp_path)
    assert read_settings(tmp_path) == settings
    write_settings(MetadataSettings(), tmp_path)
    assert read_settings(tmp_path).engine == "sqlite"
    with pytest.raises(InputError, match="expected the metadata of a run"):
        open_records(tmp_path)


_WRITER = """
import sys
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2 as pb
from pipeline.metadata import MetadataSettings, connection
from pipeline.run_metadata import alone, prepare_records, with_password

settings, name, count = MetadataSettings.model_validate_json(sys.argv[1]), sys.argv[2], 40
prepare_records(settings)
store = metadata_store.MetadataStore(with_password(connection(settings, ""), settings))

def types(number):
    return [store.put_execution_type(pb.ExecutionType(name=f"node {number % 4}")),
            store.put_artifact_type(pb.ArtifactType(name=f"artifact {number % 4}")),
            store.put_context_type(pb.ContextType(name="pipeline"))]

for number in range(count):
    with alone(settings):
        kinds = types(number)
    event = pb.Event(type=pb.Event.OUTPUT)
    event.path.steps.add().key = "out"
    store.put_execution(
        pb.Execution(type_id=kinds[0], name=f"{name} {number}"),
        [(pb.Artifact(type_id=kinds[1], uri=f"/{name}/{number}"), event)],
        [pb.Context(type_id=kinds[2], name=name)],
        reuse_context_if_already_exist=True,
    )
"""


def test_writers_at_once_on_an_empty_database_lose_nothing(
    settings: MetadataSettings, database: Database
) -> None:
    names = ["one", "two", "three"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, settings.model_dump_json(exclude_unset=True), name],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for name in names
    ]  # fmt: skip
    for writer in writers:
        _, said = writer.communicate(timeout=300)
        assert writer.returncode == 0, said[-2000:]
    counted = dict(database.ask(
        "SELECT SUBSTRING_INDEX(name, ' ', 1), COUNT(*) FROM Execution GROUP BY 1"
    ))  # fmt: skip
    assert counted == dict.fromkeys(names, "40")
    assert database.ask("SELECT COUNT(DISTINCT uri), COUNT(*) FROM Artifact") == [["120", "120"]]
    assert database.ask("SELECT COUNT(*) FROM Event") == [["120"]]
    assert sorted(database.ask("SELECT name FROM Context")) == sorted([n] for n in names)
    # A type that was there twice would split what is of it.
    assert database.ask("SELECT name FROM Type GROUP BY name, type_kind HAVING COUNT(*) > 1") == []


def test_what_is_wrong_is_said_in_one_sentence(
    settings: MetadataSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "wrong")
    with pytest.raises(ConfigError, match=r"mysql://heft@localhost:\d+/records .*: Access denied"):
        prepare_records(settings)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(ConfigError, match=f"environment variable {VARIABLE}, which is not set"):
        prepare_records(settings)
    monkeypatch.setenv(VARIABLE, PASSWORD)
    nobody = settings.model_copy(update={"port": 1})
    with pytest.raises(ConfigError, match=r"Can't connect.*expected a running server"):
        prepare_records(nobody)


@pytest.mark.parametrize(("given", "said"), [
    ({"engine": "mysql", "host": "h", "user": "u"}, "engine mysql needs database"),
    ({"host": "h"}, "'host'.* are for engine mysql"),
    ({"engine": "mysql", "password": "p"}, "password"),
    ({"engine": "postgres"}, "'sqlite' or 'mysql'"),
])  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        MetadataSettings.model_validate(given)
