"""A run that is killed while rows lie in the shuffle, and repeated."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.unit.logs.logbook import put_shop, shop
from tests.unit.logs.test_ingest import _digests

ROOT = Path(__file__).parents[3]

# The run as it is, but that the join of a bucket waits for as long as a file is there: so that
# it is known where it is killed.
_SCRIPT = """
import sys, time
from pathlib import Path
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from heft import features
from heft.logs import LogsSettings, attribution
from heft.logs.ingest import ingest, local_pipeline

root, out, wait, workers = sys.argv[1:]
joined = attribution.join_bucket

def slow(*arguments):
    while Path(wait).exists():
        Path(wait + ".seen").touch()
        time.sleep(0.02)
    return joined(*arguments)

attribution.join_bucket = slow

def several():
    options = PipelineOptions(direct_num_workers=2, direct_running_mode="multi_processing")
    return beam.Pipeline(runner=FnApiRunner(), options=options)

uris = {split: f"{out}/Split-{split}" for split in features.SPLITS}
ingest(LogsSettings(root=root, buckets=4), uris, f"{out}/quarantine",
       several if workers == "2" else local_pipeline)
"""


def _start(root: Path, out: Path, wait: Path, workers: int = 1) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", _SCRIPT, str(root), str(out), str(wait), str(workers)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.timeout(300)
def test_a_run_that_was_killed_in_its_shuffle_gives_the_same_bytes_when_repeated(
    tmp_path: Path,
) -> None:
    root, wait = put_shop(tmp_path / "log", shop(200)), tmp_path / "wait"
    assert _start(root, tmp_path / "undisturbed", wait).wait(120) == 0
    wait.touch()
    out = tmp_path / "out"
    process = _start(root, out, wait)
    try:
        deadline = time.monotonic() + 120
        while not Path(f"{wait}.seen").exists():
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert list((out / "quarantine/.shuffle").iterdir()), "its rows lie in the shuffle"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = list((out / "quarantine/.shuffle").iterdir())
    assert left, "nobody cleared up after it"
    wait.unlink()
    assert _start(root, out, wait).wait(120) == 0
    assert _digests(out) == _digests(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_of_two_workers_is_killed(tmp_path: Path) -> None:
    root, wait = put_shop(tmp_path / "log", shop(200)), tmp_path / "wait"
    assert _start(root, tmp_path / "undisturbed", wait).wait(120) == 0
    assert _start(root, tmp_path / "two", wait, workers=2).wait(300) == 0
    assert _digests(tmp_path / "two") == _digests(tmp_path / "undisturbed")
    out = tmp_path / "out"
    process = _start(root, out, wait, workers=2)
    try:
        deadline = time.monotonic() + 200
        while not list(out.glob("quarantine/.shuffle/*")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        workers[-1].kill()
        # Beam's in-memory runner waits for a worker that is gone: whoever runs it ends it.
        time.sleep(5)
    finally:
        for worker in psutil.Process(process.pid).children(recursive=True):
            worker.kill()
        process.kill()
        process.wait()
    assert _start(root, out, wait, workers=2).wait(300) == 0
    assert _digests(out) == _digests(tmp_path / "undisturbed")
