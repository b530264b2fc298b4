"""Offline ranking, against pandas and the SavedModel."""

import gzip
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions

from heft.errors import ConfigError, GateError, InputError
from heft.logs.settings import LogsSettings
from heft.ranking_expression import RankingExpression
from heft.scoring import ScoreReport, ScoreSettings, score
from pipeline.beam import beam_args
from tests.unit.logs.memory_system import MemorySystem

TEXTS = ("query", "title", "category", "brand", "device")


@pytest.fixture(scope="module")
def model(exported: Path) -> Path:
    return exported / "heft" / "1"


def _frame(requests: int = 30, each: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = requests * each
    frame = pd.DataFrame({
        "request_id": np.repeat([f"r{i}" for i in range(requests)], each),
        "query": np.repeat([("tv", "lamp", "sofa é")[i % 3] for i in range(requests)], each),
        "item_id": [f"p{i}" for i in rng.integers(0, 50, rows)],
        "title": ["t" * int(n) for n in rng.integers(1, 40, rows)],
        "category": "", "brand": [("LG", "")[i % 2] for i in range(rows)], "device": "",
        "price": rng.uniform(1, 500, rows).round(2),
        "cost": rng.uniform(1, 100, rows).round(2),
    })  # fmt: skip
    frame.loc[::5, "price"] = np.nan
    return frame.sample(frac=1, random_state=1).reset_index(drop=True)


def _score(
    inputs: str | Path, output: str | Path, model: str | Path,
    logs: dict[str, Any] | None = None, **job: Any,
) -> ScoreReport:  # fmt: skip
    log = {"root": "/nowhere", "categorical": ["device"], "catalogue": None} | (logs or {})
    by = RankingExpression(job.pop("by", "ctcvr"))
    settings = ScoreSettings(
        str(inputs), str(model), LogsSettings.model_validate(log), by=by, **job
    )
    options = PipelineOptions(beam_args())
    return score(settings, str(output), lambda: beam.Pipeline(options=options))


def _read(output: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(output.glob("scores-*.parquet"))])


def _expected(frame: pd.DataFrame, model: Path) -> pd.DataFrame:
    serve = tf.saved_model.load(str(model)).signatures["serving_default"]
    columns = {name: tf.constant(frame[name].astype(str).tolist()) for name in TEXTS}
    columns["price"] = tf.constant(frame["price"].fillna(0).to_numpy(np.float32))
    answers = {name: x.numpy() for name, x in serve(**columns).items()}
    return frame.assign(**answers)


def test_every_row_is_scored_and_ranked_in_its_request(model: Path, tmp_path: Path) -> None:
    frame = _frame()
    half = len(frame) // 2
    (tmp_path / "in").mkdir()
    pq.write_table(pa.Table.from_pandas(frame[:half]), tmp_path / "in" / "a.parquet")
    lines = frame[half:].to_json(orient="records", lines=True, force_ascii=False)
    (tmp_path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    report = _score(tmp_path / "in" / "*", tmp_path / "out", model)
    assert (report.read, report.scored, report.quarantined) == (len(frame), len(frame), {})
    assert (report.group, report.groups, report.written) == ("request_id", 30, len(frame))
    found = _read(tmp_path / "out")
    wanted = _expected(frame, model)
    wanted["rank"] = wanted.groupby("request_id")["ctcvr"].rank(ascending=False, method="first")
    # Each row says where it came from.
    found.index = found["row"] + np.where(found["source"] == "a.parquet", 0, half)
    assert set(found["source"]) == {"a.parquet", "b.jsonl.gz"}
    assert sorted(found.index) == list(range(len(frame)))
    both = found.join(wanted, rsuffix="_wanted")
    for name in ("request_id", "query", "item_id", "title"):
        assert (both[name] == both[f"{name}_wanted"]).all()
    for name in ("ctr", "cvr", "ctcvr"):
        np.testing.assert_allclose(both[name], both[f"{name}_wanted"], atol=1e-6)
    assert (both["rank"] == both["rank_wanted"]).all()
    assert (found["score"] == found["ctcvr"]).all()


def test_csv_by_query_an_expression_and_the_best_alone(model: Path, tmp_path: Path) -> None:
    frame = _frame().drop(columns="request_id").rename(columns={"query": "asked"})
    frame["price"] = frame["price"].fillna(50.0)
    frame.to_csv(tmp_path / "in.csv", index=False)
    report = _score(
        tmp_path / "in.csv", tmp_path / "out", model,
        by="ctcvr * (price - cost)", columns={"query": "asked"}, top=2,
    )  # fmt: skip
    assert (report.group, report.groups, report.written) == ("query", 3, 6)
    found = _read(tmp_path / "out").sort_values(["query", "rank"])
    wanted = _expected(frame.rename(columns={"asked": "query"}), model)
    wanted["score"] = wanted["ctcvr"] * (wanted["price"] - wanted["cost"])
    best = wanted.sort_values("score", ascending=False).groupby("query").head(2)
    best = best.sort_values(["query", "score"], ascending=[True, False])
    np.testing.assert_allclose(found["score"], best["score"], rtol=1e-5)
    assert found["title"].tolist() == best["title"].tolist()
    assert found["rank"].tolist() == [1, 2] * 3


def test_titles_come_from_the_catalogue_of_the_log(model: Path, tmp_path: Path) -> None:
    (tmp_path / "logs/impressions/span-1").mkdir(parents=True)
    (tmp_path / "logs/impressions/span-1/a.jsonl").write_text("{}\n")
    (tmp_path / "logs/catalogue").mkdir()
    items = [{"item_id": "p1", "title": "LG C4", "brand": "LG", "price": 9.0}]
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (tmp_path / "logs/catalogue/items.jsonl").write_text(lines)
    rows = [{"query": "tv", "item_id": "p1"}, {"query": "tv", "item_id": "p2"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    logs = {"root": str(tmp_path / "logs"), "catalogue": {"path": "catalogue/*"}}
    report = _score(tmp_path / "in.jsonl", tmp_path / "out", model, logs)
    assert report.unknown_items == 1
    found = _read(tmp_path / "out").set_index("item_id")
    assert found.loc["p1", "title"] == "LG C4"
    whole = {"query": ["tv"], "title": ["LG C4"], "category": [""], "brand": ["LG"],
             "device": [""], "price": [9.0]}  # fmt: skip
    wanted = _expected(pd.DataFrame(whole), model)
    assert found.loc["p1", "ctr"] == pytest.approx(wanted["ctr"][0], abs=1e-6)


def test_rows_that_cannot_be_used_are_kept_apart_and_counted(model: Path, tmp_path: Path) -> None:
    good = [json.dumps({"query": "tv", "title": f"t{i}", "price": 1.0}) for i in range(40)]
    lines = [*good, "{broken", json.dumps({"query": "tv", "title": "x", "price": "cheap"})]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n")
    report = _score(tmp_path / "in.jsonl", tmp_path / "out", model)
    assert (report.read, report.scored, sum(report.quarantined.values())) == (42, 40, 2)
    with gzip.open(tmp_path / "out" / "quarantine.jsonl.gz", "rt") as quarantine:
        kept = [json.loads(line) for line in quarantine]
    assert [row["line"] for row in kept] == [41, 42]
    assert kept[0]["raw"] == "{broken"
    with pytest.raises(GateError, match="2 of 42 rows cannot be scored"):
        _score(tmp_path / "in.jsonl", tmp_path / "out", model, {"max_quarantine_rate": 0.01})


def test_files_elsewhere_are_scored_as_files_here(model: Path, tmp_path: Path) -> None:
    """And files of one name in two folders are told apart."""
    here = tmp_path / "in"
    for day, part in enumerate((_frame()[:50], _frame()[50:])):
        (here / f"day-{day}").mkdir(parents=True)
        pq.write_table(pa.Table.from_pandas(part), here / f"day-{day}" / "part.parquet")
    MemorySystem.files = {
        f"memory://bucket/in/{path.relative_to(here)}": path.read_bytes()
        for path in here.rglob("*.parquet")
    }
    _score(f"{here}/*/*.parquet", tmp_path / "here", model)
    _score("memory://bucket/in/*/*.parquet", tmp_path / "there", model)
    found = _read(tmp_path / "there")
    pd.testing.assert_frame_equal(found, _read(tmp_path / "here"))
    assert set(found["source"]) == {"day-0/part.parquet", "day-1/part.parquet"}
    assert not found.duplicated(["source", "row"]).any()


def test_the_same_job_gives_the_same_rows_and_takes_the_place_of_the_last(
    model: Path, tmp_path: Path
) -> None:
    pq.write_table(pa.Table.from_pandas(_frame()), tmp_path / "in.parquet")
    _score(tmp_path / "in.parquet", tmp_path / "out", model)
    first = _read(tmp_path / "out")
    _score(tmp_path / "in.parquet", tmp_path / "out", model)
    pd.testing.assert_frame_equal(_read(tmp_path / "out"), first)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        _score(tmp_path / "in.parquet", tmp_path / "out", model)
    assert len(_read(tmp_path / "out")) == len(first)


def test_queries_are_cleaned_as_those_of_the_log_were(model: Path, tmp_path: Path) -> None:
    row = {"query": "tv for me@example.com", "title": "t"}
    (tmp_path / "in.jsonl").write_text(json.dumps(row) + "\n")
    _score(tmp_path / "in.jsonl", tmp_path / "out", model, {"privacy": {"redact": ["email"]}})
    [query] = _read(tmp_path / "out")["query"]
    assert "me@example.com" not in query


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"inputs": "/nowhere/*.csv"}, "no file matches"),
        ({"model": "/nowhere"}, "holds no SavedModel"),
        ({"model": "s3://bucket/model"}, "holds no SavedModel .* on gs://"),
        ({"columns": {"qery": "q"}}, "expected some of"),
        ({"by": "ctcvr * brand"}, "are no numbers"),
        ({"by": "ctcvr * margin"}, r"\['margin'\] is not in"),
        ({"columns": {"query": "asked"}}, "no column 'query'"),
        ({"output": "s3://bucket/scores"}, "cannot be written .* on gs://"),
    ],
)
def test_what_cannot_be_scored_is_said(
    model: Path, tmp_path: Path, job: dict[str, Any], said: str
) -> None:
    (tmp_path / "in.jsonl").write_text('{"query": "tv", "title": "t"}\n')
    arguments = {"inputs": tmp_path / "in.jsonl", "model": model} | job
    inputs, path = arguments.pop("inputs"), arguments.pop("model")
    output = arguments.pop("output", tmp_path / "out")
    with pytest.raises((InputError, ConfigError), match=said):
        _score(inputs, output, path, **arguments)
    assert not (tmp_path / "out" / "summary.json").exists()
