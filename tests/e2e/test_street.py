"""Logs in, a judged, checked and pushed model out; then everything a user does with it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from heft.serving_check import first_examples
from heft.serving_process import ServerProcess
from pipeline.config import load
from serving.client import Client
from tests.browser.chromium import Chromium
from tests.unit.evaluation.tfma_runs import metrics

from .conftest import NODE, PATIENCE, ROOT, Street, heft
from .trained import OUTPUTS, Trainer, artifact, columns_of, tfma_predictions

pytestmark = pytest.mark.timeout(2 * PATIENCE)

NODES = {
    "LogExampleGen", "StatisticsGen", "ImportSchemaGen", "AnomalyGate", "Transform",
    "TextEmbedder", "ImportanceEstimator", "FeatureRanker", "WeightedTrainer", "SliceTagger",
    "Evaluator", "WeightingJudge", "ServingValidator", "Pusher", "ReportGen",
}  # fmt: skip


def test_a_run_prints_a_line_per_node_and_nothing_of_the_engines(street: Street):
    assert {node for node, _ in NODE.findall(street.printed)} == NODES
    for noise in ("WARNING", "I0000", "Traceback", "tensorflow:"):
        assert noise not in street.printed
    for said in ("rows read", "effective sample size", "graded", "natural", "blessed", "report"):
        assert said in street.printed


def test_the_summary_accounts_for_every_row(street: Street):
    summary = street.summary
    made = json.loads((street.folder / "logs" / "simulation.json").read_text())["counts"]
    streams = summary["streams"]
    assert streams["impressions"]["read"] == made["impressions"]
    assert streams["clicks"]["read"] == made["clicks"]
    assert streams["conversions"]["read"] == made["conversions"]
    for stream in streams.values():
        elsewhere = sum(stream["unattributed"].values())
        assert stream["read"] == (
            stream["written"]
            + elsewhere
            + stream["duplicates"]
            + stream["conflicting"]
            + stream["quarantined"]
        )
    logged = sum(rows for split, rows in summary["rows"]["splits"].items() if split != "graded")
    assert logged == streams["impressions"]["written"]
    assert summary["rows"]["splits"]["graded"] == made["graded_pairs"]


def test_the_summary_has_what_programs_need(street: Street):
    summary = street.summary
    assert set(summary["seconds"]) == NODES
    assert summary["distinct_texts"]["queries"] > 100
    rows = summary["rows"]["splits"]["train"]
    assert all(0 < ess <= rows for ess in summary["ess"].values())
    for model in ("weighted", "control"):
        assert 0.4 < summary["metrics"][model]["graded"]["ctr_auc"] < 1
    assert summary["blessed"] and summary["pushed"]
    assert Path(summary["model_path"]) == street.version


def test_the_report_stands_alone_and_says_the_verdict(street: Street):
    page = (street.folder / "report" / "index.html").read_text()
    assert street.summary["verdict"]["sentence"].split(":")[0] in page
    assert not re.search(r"(src|href)=[\"']https?:", page)
    facts = street.facts
    ranked = {feature["name"] for feature in facts["ranking"]["features"]}
    assert {"lexical_token_overlap", "price_z", "brand_id", "cosine"} <= ranked
    assert len(facts["ranking"]["map"]["x"]) > 100
    samples = facts["importance"]["samples"]["heaviest"]
    # Words cost time: of the samples at either end alone.
    assert all(sample["words"]["title"] for sample in samples[:20])
    assert 'class="for4' in page or 'class="against4' in page


def test_the_report_opens_in_a_browser_and_has_every_part(street: Street, chromium: Chromium):
    page = street.folder / "report" / "index.html"
    assert page.stat().st_size < 5_000_000
    chromium.show(390)
    chromium.open(page)
    assert chromium.complaints == []
    assert chromium.requests == [page.absolute().as_uri()]
    assert chromium.run("document.documentElement.scrollWidth") <= 390
    missing = chromium.run("[...document.querySelectorAll('.missing')].map((p) => p.textContent)")
    # No groups are named in the config, and AnomalyGate has no earlier span to compare with.
    assert all("groups" in line or "Drift" in line for line in missing), missing
    slices = chromium.run("""[...document.querySelectorAll("#slices-table tbody tr")]
        .map((row) => row.dataset.column)""")
    assert {"device", "query_frequency", "item_novelty"} & set(slices)


def test_evaluator_and_judge_measure_the_same(street: Street):
    """One by TFMA through Beam, the other in memory, on the same tagged rows."""
    [evaluation] = (street.folder / "artifacts/Evaluator/evaluation").iterdir()
    found = metrics(evaluation)
    whole = found[(found["slice"] == ()) & ~found["diff"]].set_index(["output", "name"])["value"]
    natural = street.facts["comparison"]["views"]["natural"]
    assert whole["ctr", "example_count"] == natural["rows"]
    for metric in natural["metrics"]:
        head, _, name = metric["name"].partition("_")
        assert whole[head, name] == pytest.approx(metric["weighted"], abs=1e-5), metric["name"]
    keys = {key[0][0] for key in found["slice"] if key}
    assert {"device", "query_frequency", "item_novelty"} == keys


def test_the_pushed_model_answers_as_heft_predict_does(street: Street, tmp_path: Path):
    titles = ["Velora wireless headphones black", "garden hose 20 m", "zqx unheard-of gadget"]
    arguments = [x for title in titles for x in ("--title", title)]
    printed = heft("predict", street.folder, "--query", "wireless headphones", *arguments)
    said = {t: float(re.search(re.escape(t) + r"\s*│\s*([\d.]+)", printed)[1]) for t in titles}
    port = tmp_path / "ports.json"
    server = subprocess.Popen(
        [sys.executable, "-m", "serving.local_server", "--model-name", "heft",
         "--model-base-path", str(street.version.parent), "--rest-port", "0",
         "--grpc-port", "0", "--port-file", str(port), "--until-stdin-closes"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        server.stdout.readline()
        rest = json.loads(port.read_text())["rest"]
        columns = {
            "query": ["wireless headphones"] * 3, "title": titles, "category": [""] * 3,
            "brand": [""] * 3, "device": [""] * 3, "price": [0.0] * 3,
        }  # fmt: skip
        with Client(f"http://127.0.0.1:{rest}") as client:
            answers = client.predict(columns)
            brief = client.predict({"query": ["wireless headphones"], "title": titles})
        ranked = heft(
            "predict", street.folder, "--query", "wireless headphones", *arguments, "--column",
            "price=40", "--by", "value", "--server", f"http://127.0.0.1:{rest}",
        )  # fmt: skip
    finally:
        server.communicate(timeout=30)
    assert answers["ctr"] == pytest.approx([said[t] for t in titles], abs=1e-4)
    assert answers["ctcvr"] == pytest.approx(answers["ctr"] * answers["cvr"], rel=1e-4)
    assert said[titles[0]] > said[titles[1]]
    for name, values in brief.items():
        assert values == pytest.approx(answers[name], abs=1e-6)
    # By a ranking of the config, the best first.
    scores = [float(row.split("│")[-2]) for row in ranked.splitlines() if row.count("│") == 6]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    shown = next(row.split("│") for row in ranked.splitlines() if titles[0] in row)
    assert float(shown[-2]) == pytest.approx(60 * float(shown[-3]), rel=0.05)


def test_a_server_and_tfma_answer_for_1000_logged_rows_what_the_trainer_predicts(
    street: Street, tmp_path: Path
):
    config = load(street.config, run_dir=street.folder)
    natural = artifact(street.folder, "LogExampleGen", "examples") / "Split-natural"
    rows = first_examples(str(natural), 1_000)
    assert len(rows) == 1_000
    trainer = Trainer(street.folder, config)
    placed, reference = (trainer.predict(rows, at_reference=flag) for flag in (False, True))
    # Rows that differ, at positions that matter, or agreement would say nothing.
    assert np.ptp(placed["ctr"]) > 0.05
    assert np.abs(placed["ctr"] - reference["ctr"]).max() > 0.01
    assert trainer.new_texts(rows), "no text that the table lacks"
    columns = columns_of(rows, config)
    answers = {"TFMA": (placed, tfma_predictions(street.version, rows, config, tmp_path))}
    command = [sys.executable, "-m", "serving.local_server"]
    with ServerProcess(command, str(street.version), str(ROOT), 120) as server:
        for target in (server.rest_target, server.grpc_target):
            with Client(target) as client:
                whole = [client.predict({k: v[i : i + 100] for k, v in columns.items()})
                         for i in range(0, 1_000, 100)]  # fmt: skip
                answers[f"{target} serving_default"] = (reference, _joined(whole))
                whole = [client.predict({"examples": rows[i : i + 100]}, "examples")
                         for i in range(0, 1_000, 100)]  # fmt: skip
                answers[f"{target} examples"] = (placed, _joined(whole))
    assert len(answers) == 5
    for name, (want, got) in answers.items():
        for output in OUTPUTS:
            gap = np.abs(np.asarray(got[output], np.float64) - want[output]).max()
            assert gap <= 1e-4, f"{name}: {output} differs by {gap}"


def _joined(batches: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_files_of_candidates_are_ranked_by_the_pushed_model(street: Street, tmp_path: Path):
    pattern = street.folder / "logs" / "impressions" / "*" / "*.parquet"
    printed = heft(
        "score", street.config, "--runs", street.runs, "--input", pattern, "--by", "value",
        "--output", tmp_path / "scores", "--top", 3,
    )  # fmt: skip
    made = json.loads((street.folder / "logs" / "simulation.json").read_text())["counts"]
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert summary["read"] == summary["scored"] == made["impressions"]
    assert (summary["group"], summary["unknown_items"]) == ("request_id", 0)
    assert f"{made['impressions']:,}" in printed
    found = pd.concat(map(pd.read_parquet, (tmp_path / "scores").glob("*.parquet")))
    assert len(found) == summary["written"]
    assert found.groupby("request_id").size().max() == 3
    ordered = found.sort_values(["request_id", "rank"])
    assert (ordered.groupby("request_id")["score"].diff().dropna() <= 0).all()
    assert (found["title"] != "").all()


def test_words_are_explained_by_the_model_that_was_pushed(street: Street):
    arguments = ("--query", "wireless headphones", "--title", "Velora wireless headphones black")
    [found] = json.loads(heft("explain", street.folder, *arguments, "--json"))
    assert [word["text"] for word in found["query_words"]] == ["wireless", "headphones"]
    title = {word["text"]: word for word in found["title_words"]}
    assert title["headphones"]["link"] > title["black"]["link"]
    assert sum(word["rollout"] for word in found["query_words"] + found["title_words"]) < 1
    assert max(abs(word["integrated"]) for word in found["title_words"]) > 0


def test_a_second_run_does_no_work_again_and_says_the_same(street: Street):
    before = street.summary
    assert set(street.again().values()) == {"cached"}
    after = street.summary
    for changing in ("created", "seconds"):
        before.pop(changing), after.pop(changing)
    assert after == before
    assert len(list((street.folder / "serving" / "heft").iterdir())) == 1


def test_a_changed_line_runs_again_what_depends_on_it(street: Street, tmp_path: Path):
    tree = tmp_path / "tree"
    for part in ("src", "pipeline", "components", "serving"):
        shutil.copytree(ROOT / part, tree / part)
    combine = tree / "src/heft/importance/combine.py"
    combine.write_text(combine.read_text() + "\n# One more line.\n")
    took = street.again(tree, until="ImportanceEstimator")
    cached = {node for node, seconds in took.items() if seconds == "cached"}
    assert {"LogExampleGen", "StatisticsGen", "Transform", "TextEmbedder"} <= cached
    assert "ImportanceEstimator" not in cached


def test_rendering_the_report_again_and_in_markdown(street: Street):
    page = street.folder / "report" / "index.html"
    page.unlink()
    assert "index.html" in heft("report", street.folder)
    assert page.stat().st_size > 20_000
    assert "AUC" in heft("report", street.folder, "--markdown")
    assert "no difference" in heft("compare", street.folder, street.folder)


def test_a_search_takes_the_nodes_from_the_cache_and_writes_what_a_run_takes(street: Street):
    space = "tune.space={learning_rate: {values: [0.000001, 0.004]}, hidden: {values: [[16]]}}"
    arguments = ("tune", street.config, "--runs", street.runs, "--trials", 3, "--set", space)
    printed = heft(*arguments)
    nodes = dict(NODE.findall(printed))
    assert set(nodes.values()) == {"cached"} and "WeightedTrainer" not in nodes
    assert printed.count("✓ trial") == 3 and "the config's own" in printed
    overlay = street.folder / "tuned.yaml"
    trials = [json.loads(line) for line in (street.folder / "tune/trials.jsonl").open()][1:]
    least = min(trials, key=lambda trial: trial["loss"])
    assert trials[0]["changes"] == {"learning_rate": 0.002, "hidden": [64, 32]}
    assert least["loss"] <= trials[0]["loss"]
    laid = load(street.config, overlays=[overlay]).model
    assert laid.learning_rate == least["changes"]["learning_rate"]
    assert list(laid.hidden) == least["changes"]["hidden"]
    # Done once, it is not done again.
    again = heft(*arguments)
    assert again.count("known") == 3


def test_an_encoder_is_fine_tuned_on_the_cached_log_and_a_run_can_take_it(street: Street):
    settings = "text.finetune={steps: 2, batch_size: 4, evaluate_every: 2, page_negatives: 0}"
    arguments = ("finetune", street.config, "--runs", street.runs, "--set", settings)
    printed = heft(*arguments)
    nodes = dict(NODE.findall(printed))
    assert nodes.pop("FineTuner") != "cached" and set(nodes.values()) == {"cached"}
    assert "step 2 of 2" in printed and "pairs/s" in printed
    laid = load(street.config, overlays=[street.folder / "finetuned.yaml"]).text
    assert laid.encoder == str(street.folder / "encoder") and laid.finetune is None
    assert (street.folder / "encoder" / "model.safetensors").is_file()
    assert set(dict(NODE.findall(heft(*arguments))).values()) == {"cached"}
