"""What a user sees of the command: one message, the right exit code, nothing half-written."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.commands import Ended, Heft, config_in
from tests.unit.logs.logbook import put, put_shop, shop

ROOT = Path(__file__).parents[2]


def _nothing_written(folder: Path) -> None:
    assert not (folder / "runs").exists()


def test_a_config_that_is_not_there(heft: Heft, tmp_path: Path) -> None:
    heft("run", "gone.yaml").is_refusal("no config file at gone.yaml")
    _nothing_written(tmp_path)


def test_a_key_that_does_not_exist(heft: Heft, log: Path, tmp_path: Path) -> None:
    config_in(tmp_path, model={"epoch": 3})
    heft("run", log).is_refusal("unknown key 'model.epoch': expected one of [")
    heft("run", config_in(tmp_path), "--set", "model.speed=1").is_refusal("'model.speed'")
    _nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.epochs=0", "model.epochs=0"),
        ("model.epochs", "expected key=value"),
        ("importance.value.luck=1.0", "estimator='luck'"),
        ("name=a/b", "name='a/b'"),
        ("name.first=1", "'name' is not a group of settings"),
    ],
)
def test_a_setting_that_cannot_be(
    heft: Heft, log: Path, tmp_path: Path, setting: str, said: str
) -> None:
    heft("run", log, "--set", setting).is_refusal(said)
    _nothing_written(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--trials", 1), "tune.trials=1"),
        (("--set", "tune.space={}"), "nothing to search"),
        (("--set", "tune.space={experts: {low: 2, high: 4}}"), "no effect: it is for architecture"),
        (("--set", "tune.space={dropout: {values: [0.1]}}"), "no value beside the config's own"),
        (("--set", "model.warm_start=true"), "model.warm_start=True: a trial begins anew"),
        (("--set", "model.strategy=multi_worker"), "model.strategy=multi_worker: a search is one"),
        (("--set", "model.student={hidden: [8]}"), "a search is for the model itself"),
        (("--set", "model.privacy={delta: 1.0e-6}"), "every trial would spend as much"),
        (("--with", "gone.yaml"), "no config file at gone.yaml"),
    ],
)
def test_a_search_that_cannot_be(
    heft: Heft, log: Path, tmp_path: Path, arguments: tuple[Any, ...], said: str
) -> None:
    heft("tune", log, *arguments).is_refusal(said)
    _nothing_written(tmp_path)


def test_a_base_model_that_is_not_there(heft: Heft, log: Path, tmp_path: Path) -> None:
    heft("run", log, "--set", "model.base_model=gone").is_refusal(
        "model.base_model='gone': no folder"
    )
    (tmp_path / "old").mkdir()
    heft("run", log, "--set", "model.base_model=old").is_refusal("pushed no model")
    (tmp_path / "old/saved_model.pb").touch()
    said = "holds no weights of a weighted model"
    heft("run", log, "--set", "model.base_model=old").is_refusal(said)
    _nothing_written(tmp_path)


def test_an_overlay_is_read_and_named_in_what_is_wrong(
    heft: Heft, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "more.yaml").write_text("model: {epoch: 3}")
    heft("run", log, "--with", "more.yaml").is_refusal("'model.epoch'")
    assert "(in more.yaml)" in heft("run", log, "--with", "more.yaml").error
    (tmp_path / "more.yaml").write_text("model: {epochs: 0}")
    heft("run", log, "--with", "more.yaml").is_refusal("model.epochs=0")
    # What the command sets wins: the fault is gone, and another is found.
    ended = heft("run", log, "--with", "more.yaml", "--set", "model.epochs=2", "--span", 9)
    ended.is_refusal("span=9")
    _nothing_written(tmp_path)


def test_a_data_folder_that_is_not_there(heft: Heft, tmp_path: Path) -> None:
    path = config_in(tmp_path, logs={"root": str(tmp_path / "nowhere")})
    heft("run", path).is_refusal(f"{tmp_path}/nowhere")
    _nothing_written(tmp_path)


def test_a_source_to_simulate_that_is_not_there(heft: Heft, tmp_path: Path) -> None:
    simulate = {"source": "chorus", "data": "{data}/chorus", "sessions": 10}
    path = config_in(tmp_path, simulate=simulate, logs={"root": "{run}/logs"})
    heft("run", path).is_refusal("../shared/data/chorus")
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_column_that_a_log_lacks(heft: Heft, tmp_path: Path, suffix: str) -> None:
    records = shop()
    for row in records["impressions"]:
        del row["query"]
    put_shop(tmp_path / "logs", records, suffix)
    heft("run", config_in(tmp_path)).is_refusal("impressions: column 'query' is not in")
    _nothing_written(tmp_path)


def test_a_column_of_another_type(heft: Heft, tmp_path: Path) -> None:
    records = shop()
    for row in records["impressions"]:
        row["position"] = "first"
    put_shop(tmp_path / "logs", records)
    ended = heft("run", config_in(tmp_path))
    ended.is_refusal("column 'position'")
    # The log has people in it: what looks like no number may be somebody's.
    assert "text of 5 characters" in ended.error
    _nothing_written(tmp_path)


def test_an_empty_span_and_one_that_is_not_there(heft: Heft, log: Path, tmp_path: Path) -> None:
    heft("run", log, "--set", "logs.span=9").is_refusal("9")
    for stream in ("impressions", "clicks", "conversions"):
        put(tmp_path / "logs", f"{stream}/span-2/part-0.jsonl", b"")
    heft("run", log).is_refusal("span 2")
    _nothing_written(tmp_path)


def test_a_look_at_a_log_writes_nothing_and_says_what_a_run_would_do(
    heft: Heft, log: Path, tmp_path: Path
) -> None:
    put(tmp_path / "logs", "clicks/span-1/z.csv", b"impression_id,timestamp\ni1,soon\n")
    before = sorted(tmp_path.rglob("*"))
    ended = heft("ingest", log, "--check")
    assert (ended.code, ended.error) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
    for said in ("impressions", "csv, jsonl", "1 (3.2%)", "timestamp: not a number",
                 "z.csv, line 2", "the first click within 3,600 s", "about ",
                 "by time: natural 20%", "leave as keyed hashes",
                 "0 are duplicates and 0 conflicting"):  # fmt: skip
        assert said in ended.out, said
    assert '"u1"' not in ended.out and " u1 " not in ended.out
    heft("ingest", log, "--check", "--span", "9").is_refusal("span=9 is not there")
    spoilt = heft("ingest", log, "--check", "--set", "logs.max_quarantine_rate=0.01")
    spoilt.is_refusal("more than max_quarantine_rate=0.01", code=3)


def test_ingest_alone_writes_examples_and_says_what_became_of_the_rows(
    heft: Heft, log: Path, tmp_path: Path
) -> None:
    ended = heft("ingest", log, "--out", tmp_path / "examples")
    assert (ended.code, ended.error) == (0, "")
    report = json.loads((tmp_path / "examples/quarantine/summary.json").read_text())
    assert f"train {report['splits']['train']}, tune" in ended.out and "quarantined" in ended.out
    assert report["streams"]["impressions"]["written"] == 120
    assert len(list((tmp_path / "examples").glob("Split-train/*.gz"))) == 8
    assert not (tmp_path / "runs").exists()


def test_people_without_a_key_are_one_message(
    heft: Heft, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HEFT_PII_KEY")
    for command in (("run",), ("ingest",), ("ingest", "--check")):
        heft(command[0], log, *command[1:]).is_refusal("HEFT_PII_KEY is not set")
    _nothing_written(tmp_path)


@pytest.mark.parametrize("arguments", [("report",), ("predict", "--query", "q", "--title", "t")])
def test_a_run_that_does_not_exist(heft: Heft, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command, *rest = arguments
    (tmp_path / "runs" / "half").mkdir(parents=True)
    for run in ("gone", "half"):
        heft(command, run, *rest).is_refusal(f"no finished run at {run} or runs/{run}")


def test_a_run_that_pushed_nothing_cannot_be_asked(heft: Heft, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "shut"
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    heft("predict", "shut", "--query", "q", "--title", "t").is_refusal("pushed no model")
    heft("report", "shut").is_refusal("report.json")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), "stream.inbox is not set"),
        (("--inbox", "landing", "--set", "logs.impressions.path=i/*"), "write {SPAN}"),
        (("--inbox", "s3://landing"), "folders of a disk"),
        (("--inbox", "landing", "--set", "simulate={source: builtin}"), "leave out `simulate`"),
        (("--set", "stream={every_seconds: null}"), "no model would ever be trained"),
        (("--inbox", "in", "--set", "model.selection={top: 3}"), "selection with warm_start"),
    ],
)
def test_a_stream_that_cannot_be(
    heft: Heft, log: Path, tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    heft("stream", log, "--once", *changes).is_refusal(said)
    _nothing_written(tmp_path)


def test_only_one_process_streams_into_a_run(heft: Heft, log: Path, tmp_path: Path) -> None:
    lock = tmp_path / "runs" / "shop" / "stream.lock"
    lock.parent.mkdir(parents=True)
    # Nothing lands: what this looks at is the lock alone.
    empty = ("--inbox", "in", "--once", "--set", f"logs.root={tmp_path / 'none'}")
    (tmp_path / "none").mkdir()
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        heft("stream", log, *empty).is_refusal("another command is at work there", code=4)
    ended = heft("stream", log, *empty)
    assert (ended.code, ended.error) == (0, "")
    assert "watching in" in ended.out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ((), "pushed no model"),
        (("--by", "value", "--model", "x"), "--by value: ['value'] is not in in.csv"),
        (("--by", "ctcvr ;"), "the config's rankings are ['margin']"),
        (("--column", "qery=q", "--model", "x"), "--column names ['qery']"),
        (("--model", "x", "--input", "gone-*.csv"), "no file matches"),
    ],
)
def test_files_that_cannot_be_scored(
    heft: Heft, tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    put_shop(tmp_path / "logs", shop())
    config = config_in(tmp_path, serving={"rankings": {"margin": "ctcvr * price"}})
    (tmp_path / "in.csv").write_text("query,title\ntv,lamp\n")
    arguments = ("--input", "in.csv", "--output", "out", *changes)
    heft("score", config, *arguments).is_refusal(said)
    assert not (tmp_path / "out").exists()


def test_brackets_in_a_message_are_shown_as_they_are(heft: Heft, tmp_path: Path) -> None:
    heft("report", "[bold]x[/]").is_refusal("no finished run at [bold]x[/]")


def test_simulating_writes_logs_and_says_how_many(heft: Heft, tmp_path: Path) -> None:
    ended = heft("simulate", "builtin", "--out", "made", "--sessions", 40, "--seed", 3)
    assert (ended.code, ended.error) == (0, "")
    counts = json.loads((tmp_path / "made" / "simulation.json").read_text())["counts"]
    assert f"{counts['impressions']:,}" in ended.out
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert {"impressions", "clicks", "conversions", "catalogue", "grades", "truth"} <= made
    # What was simulated is what `heft run` reads.
    from heft.logs import LogsSettings, preflight

    assert preflight(LogsSettings(root=str(tmp_path / "made"))).span >= 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("builtin", "--set", "bots=2"), "bots=2"),
        (("builtin", "--set", "sesions=2"), "sesions"),
        (("chorus", "--data", "gone"), "gone"),
        (("chorus",), "data"),
    ],
)
def test_a_simulation_that_cannot_be(
    heft: Heft, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    heft("simulate", *arguments, "--out", "made", "--sessions", 40).is_refusal(said)
    assert not (tmp_path / "made").exists()


def test_arguments_the_command_does_not_know(heft: Heft) -> None:
    for arguments in (("run",), ("walk",), ("simulate", "mars", "--out", "x"), ("run", "a", "--x")):
        ended = heft(*arguments)
        assert ended.code == 2
        assert "Traceback" not in ended.error


def test_the_version_is_that_of_the_package(heft: Heft) -> None:
    import importlib.metadata

    assert heft("--version").out.strip() == importlib.metadata.version("heft")


def test_a_process_of_its_own_says_no_more(tmp_path: Path) -> None:
    """Without the fixture: the engines' noise at import stays away, the message does not."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", "heft.cli", "run", "gone.yaml"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    Ended(done.returncode, done.stdout, done.stderr).is_refusal("no config file at gone.yaml")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []
