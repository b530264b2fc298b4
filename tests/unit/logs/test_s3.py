"""Logs in a store that speaks S3, through Beam's own file system, over HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import boto3
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from moto.server import ThreadedMotoServer

from heft import features
from heft.errors import DataError
from heft.logs import LogsSettings, input_fingerprint
from heft.logs.ingest import ingest
from tests.unit.logs.logbook import START, put, shop
from tests.unit.logs.test_ingest import _digests, _run


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[Any, PipelineOptions]]:
    """A client of the store, and the options that tell Beam where it is."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"access_key_id": "nobody", "secret_access_key": "nothing", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
                          aws_access_key_id="nobody", aws_secret_access_key="nothing")  # fmt: skip
    client.create_bucket(Bucket="logs")
    before = getattr(FileSystems, "_pipeline_options", None)
    arguments = [f"--s3_endpoint_url=http://{host}:{port}"]
    yield client, PipelineOptions([*arguments, *(f"--s3_{k}={v}" for k, v in keys.items())])
    FileSystems.set_options(before)
    server.stop()


def _upload(client: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), "logs", f"{prefix}/{path.relative_to(folder)}")


def test_a_log_in_the_store_gives_the_bytes_of_the_same_log_here(
    tmp_path: Path, store: tuple[Any, PipelineOptions]
) -> None:
    """Parquet is sought through, JSON Lines is inflated on the way; Beam's client is slow to make,
    and it makes one for each question: so there are few files."""
    client, options = store
    log = shop(60)
    here = tmp_path / "log"
    put(here, "impressions/span-7/a.parquet", log["impressions"])
    put(here, "clicks/span-7/a.jsonl.gz", log["clicks"])
    streams = {"buckets": 3, "conversions": None, "catalogue": None}
    _run(tmp_path / "here", root=str(here), conversions=None, catalogue=None)
    _upload(client, here, "shop")
    uris = {split: str(tmp_path / f"there/Split-{split}") for split in features.SPLITS}
    settings = LogsSettings(root="s3://logs/shop", **streams)
    report = ingest(
        settings, uris, str(tmp_path / "there/quarantine"),
        lambda: beam.Pipeline(runner=FnApiRunner(), options=options),
    )  # fmt: skip
    assert report.span == 7
    assert _digests(tmp_path / "there") == _digests(tmp_path / "here")


def test_the_stores_checksums_tell_that_a_log_has_changed(
    tmp_path: Path, store: tuple[Any, PipelineOptions]
) -> None:
    client, options = store
    FileSystems.set_options(options)
    settings = LogsSettings(
        root="s3://logs/changing", clicks=None, conversions=None, catalogue=None
    )
    prints = []
    for time in (START, START, START + 1):
        row = {"impression_id": "a", "timestamp": time}
        put(tmp_path / "log", "impressions/span-1/a.jsonl", [row])
        _upload(client, tmp_path / "log", "changing")
        prints.append(input_fingerprint(settings))
    # The same bytes are the same log, however often they are brought.
    assert prints[0] == prints[1] != prints[2]


def test_a_bucket_that_is_not_there_is_one_sentence(store: tuple[Any, PipelineOptions]) -> None:
    _, options = store
    FileSystems.set_options(options)
    with pytest.raises(DataError, match=r"no files match impressions.path=.* under s3://nobodys:"):
        input_fingerprint(LogsSettings(root="s3://nobodys"))
