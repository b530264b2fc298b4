"""Files: the same bytes for the same seed, the same rows in each format, all or nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from heft.errors import ConfigError, DataError
from heft.simulate import SimulationSettings, simulate
from tests.unit.simulate.readback import run, stream_rows

IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
from heft.simulate import SimulationSettings, simulate
for number, text in enumerate(sys.argv[2:]):
    simulate(SimulationSettings.model_validate_json(text), Path(sys.argv[1]) / str(number))
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Settings of a simulation of a moment: 30 queries of 12 judged titles each."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = [f"query {q},title {q} {t},{(q * t) % 4},{q}.99" for q in range(30) for t in range(12)]
    (folder / "pairs.csv").write_text("\n".join(["query,title,grade,price", *rows]))
    return {"source": "pairs", "data": str(folder), "sessions": 300, "seed": 5, "spans": 2}


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_same_seed_same_bytes_in_another_process(tmp_path: Path, small: dict[str, object]) -> None:
    choices = ({"sessions": 300, "spans": 2}, {**small, "format": "jsonl"},
               {**small, "format": "csv"})  # fmt: skip
    settings = [SimulationSettings.model_validate(choice) for choice in choices]
    # Another hash seed and another number of threads must not matter.
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS, str(tmp_path / "there")]
    command += [chosen.model_dump_json() for chosen in settings]
    subprocess.run(command, check=True, env=environment)
    for number, chosen in enumerate(settings):
        simulate(chosen, tmp_path / "here" / str(number))
    here = digests(tmp_path / "here")
    assert len(here) == 3 * 12
    assert here == digests(tmp_path / "there")


def test_another_seed_gives_other_files(tmp_path: Path, small: dict[str, object]) -> None:
    one = run(tmp_path / "one", **small)
    two = run(tmp_path / "two", **{**small, "seed": 6})
    assert not one.impressions.equals(two.impressions)
    assert not one.queries.equals(two.queries)


def test_more_bots_do_not_move_queries_between_groups(
    tmp_path: Path, small: dict[str, object]
) -> None:
    few, many = run(tmp_path / "few", **small), run(tmp_path / "many", **small, bots=0.5)
    assert few.queries.equals(many.queries)


def test_formats_and_spans_hold_the_same_rows(tmp_path: Path, small: dict[str, object]) -> None:
    whole = run(tmp_path / "parquet", **{**small, "spans": 1})
    for kind in ("jsonl", "csv"):
        out = tmp_path / kind
        simulate(SimulationSettings.model_validate({**small, "format": kind}), out)
        for name in ("impressions", "clicks", "conversions"):
            files = sorted(out.glob(f"{name}/span-*/part-00000.{kind}"))
            assert len(files) == 2
            read = pd.read_csv if kind == "csv" else lambda f: pd.read_json(
                f, lines=True, convert_dates=False
            )  # fmt: skip
            rows = pd.concat([read(file) for file in files], ignore_index=True)
            pd.testing.assert_frame_equal(rows, stream_rows(whole.folder, name))


def test_an_interrupted_simulation_leaves_the_earlier_one(
    tmp_path: Path, small: dict[str, object]
) -> None:
    out = tmp_path / "log"
    run(out, **small)
    before = digests(out)

    def interrupt(stage: str) -> None:
        if stage == "write truth":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(
            SimulationSettings.model_validate({**small, "sessions": 50, "spans": 1}),
            out,
            progress=interrupt,
        )
    assert digests(out) == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_simulation_replaces_an_earlier_one_whole(
    tmp_path: Path, small: dict[str, object]
) -> None:
    out = tmp_path / "log"
    run(out, **small)
    simulate(SimulationSettings.model_validate({**small, "sessions": 50, "spans": 1}), out)
    assert not (out / "clicks" / "span-2").exists()
    assert json.loads((out / "simulation.json").read_text())["settings"]["sessions"] == 50
    assert list(tmp_path.iterdir()) == [out]


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="other than a simulation"):
        simulate(SimulationSettings(sessions=50), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        simulate(SimulationSettings(sessions=50), tmp_path / "file" / "log")


GOOD = "query,title,grade\n" + "".join(
    f"q{q},t{q}{t},{t}\n" for q in range(4) for t in range(3)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "pairs.csv is missing: expected a table with the columns query, title, grade"),
        ("", "pairs.csv cannot be read"),
        ("query,title\na,b\n", "lacks the column 'grade'"),
        (GOOD + "q9,t9,4\n", "grade=4 in data row 13: expected a whole number from 0 to 3"),
        (GOOD + "q9,t9,1.5\n", r"grade=1\.5 in data row 13"),
        (GOOD + "q9,t9,high\n", "grade=high in data row 13"),
        ("query,title,grade\na,b,1\nc,d,2\n", "0 queries have min_candidates=2"),
        ("query,title,grade,price\na,b,1,-3\n", r"price=-3 in data row 1"),
        ("query,title,grade,price\na,b,1,dear\n", r"price=dear in data row 1"),
    ],
)
def test_unusable_pairs_are_named_and_nothing_is_written(
    tmp_path: Path, text: str | None, message: str
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    if text is not None:
        (source / "pairs.csv").write_text(text)
    settings = SimulationSettings(source="pairs", data=str(source), sessions=20)
    with pytest.raises(DataError, match=message) as raised:
        simulate(settings, tmp_path / "new" / "log")
    assert str(source) in str(raised.value) or "min_candidates" in str(raised.value)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("source", ["chorus", "home_depot", "pairs"])
def test_a_missing_or_empty_folder_is_named(tmp_path: Path, source: str) -> None:
    absent = tmp_path / "absent"
    with pytest.raises(DataError, match="absent is not a folder"):
        simulate(SimulationSettings(source=source, data=str(absent)), tmp_path / "log")
    absent.mkdir()
    with pytest.raises(DataError, match="is missing: expected"):
        simulate(SimulationSettings(source=source, data=str(absent)), tmp_path / "log")
    with pytest.raises(ConfigError, match="needs data"):
        simulate(SimulationSettings(source=source), tmp_path / "log")


def test_the_built_in_shop_takes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="brings its own catalogue"):
        simulate(SimulationSettings(data=str(tmp_path)), tmp_path / "log")


@pytest.mark.parametrize(
    "wrong",
    [{"spans": 3, "days": 2}, {"trust_bias": 2.0}, {"trust_bias": "some"}, {"page_size": 11},
     {"sesions": 5}, {"bots": 1.0}],
)  # fmt: skip
def test_settings_that_contradict_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SimulationSettings.model_validate(wrong)


@pytest.mark.parametrize("extra", [{"bots": 0.9}, {"shuffled": 1.0}, {"days": 1}, {"bots": 0.0}])
def test_one_session_is_enough(
    tmp_path: Path, small: dict[str, object], extra: dict[str, float]
) -> None:
    log = run(tmp_path / "log", **{**small, "sessions": 1, "spans": 1, **extra})
    assert log.counts["sessions"] == 1
    assert len(log.impressions) == 10
