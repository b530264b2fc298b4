"""Is an encoder that was fine-tuned on clicks better? NDCG@10 of queries that no log contains.

    .venv/bin/python -m benchmarks.finetune --data home_depot chorus

Clicks are simulated over human grades, with position bias, trust and bots; the encoder is
fine-tuned on the logged queries alone, and the cosine of query and title ranks the judged titles
of the others. The interval is a paired bootstrap over those queries. `--arms weighted` counts
clicks by inverse propensities estimated on shuffled pages. The last line is one JSON object.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from heft import features as f
from heft.console import quiet
from heft.evaluation.grouped import GroupMean, ndcg_at_k
from heft.importance import from_shuffled_pages
from heft.simulate import SimulationSettings, simulate
from heft.text.clicked import ShownPairs, count_shown
from heft.text.embed import embed
from heft.text.encoder import load_encoder
from heft.text.finetune import Step, fine_tune
from heft.text.finetune_settings import FinetuneSettings
from heft.text.settings import TextSettings

SESSIONS = {"home_depot": 60_000, "chorus": 20_000}
ARMS = ("clicks", "weighted")

Array = np.ndarray


@dataclass(frozen=True)
class Shop:
    """A log's columns, its vocabularies, and the judged pairs of queries that it lacks."""

    columns: dict[str, Array]
    queries: list[bytes]
    titles: list[bytes]
    test: pd.DataFrame

    def pairs(self, arm: str) -> ShownPairs:
        """Shown pairs of the logged queries, by clicks or by weights."""
        weighted = arm == "weighted"
        return count_shown([self.columns], self.queries, self.titles, weighted=weighted)


def main() -> None:
    """Fine-tunes on each data set and prints a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=list(SESSIONS), default=list(SESSIONS))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["clicks"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--sessions", type=int)
    parser.add_argument("--set", nargs="*", default=[], help="a setting: steps=300")
    parser.add_argument("--resamples", type=int, default=2_000)
    options = parser.parse_args()
    given = dict(item.split("=", 1) for item in options.set)
    quiet()
    facts: dict = {"settings": given}
    for data in options.data:
        for arm in options.arms:
            runs = [_measure(data, arm, seed, given, options) for seed in options.seeds]
            facts[f"{data}_{arm}"] = _together(runs)
    print(json.dumps(facts))


def _measure(data: str, arm: str, seed: int, given: dict, options: argparse.Namespace) -> dict:
    began = time.monotonic()
    settings = FinetuneSettings.model_validate(
        {"seed": seed, "weighted": arm == "weighted"} | given
    )
    shop = make_shop(data, options.sessions or SESSIONS[data], seed)
    pairs, text = shop.pairs(arm), TextSettings()
    before = judge(shop.test, text)
    with tempfile.TemporaryDirectory() as folder:
        clock = time.monotonic()
        tuned = fine_tune(pairs, text, settings, Path(folder) / "encoder", progress=_tell)
        seconds = time.monotonic() - clock
        after = judge(shop.test, TextSettings(encoder=str(tuned.folder)))
    difference = after.values - before.values
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(difference), (options.resamples, len(difference)))
    found = {
        "before": before.mean, "after": after.mean, "queries": len(difference),
        "interval": np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975]).tolist(),
        "kept_step": tuned.steps, "held_out": tuned.curve, "tuning_seconds": round(seconds, 1),
        "pairs": int((pairs.positive > 0).sum()), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    print(
        f"{data} {arm} seed {seed}: NDCG@10 {before.mean:.4f} → {after.mean:.4f} "
        f"({found['interval'][0]:+.4f} … {found['interval'][1]:+.4f}, {found['queries']} queries), "
        f"kept step {tuned.steps}, {found['seconds']} s",
        flush=True,
    )
    return found


def _together(runs: list[dict]) -> dict:
    means = {key: float(np.mean([run[key] for run in runs])) for key in ("before", "after")}
    return means | {"gain": means["after"] - means["before"], "runs": runs}


def make_shop(data: str, sessions: int, seed: int) -> Shop:
    """Simulates a log and reads it back."""
    folder = Path(os.environ.get("HEFT_DATA", "../shared/data")) / data
    settings = SimulationSettings(source=data, data=str(folder), sessions=sessions, seed=seed)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "log"
        simulate(settings, out)
        grades = pd.read_parquet(out / "truth" / "grades.parquet")
        log, clicks = (_read(out / name) for name in ("impressions", "clicks"))
        catalogue = pq.read_table(out / "catalogue").to_pandas()[["item_id", "title"]]
    grades = grades.merge(catalogue, on="item_id", how="left")
    log = log.merge(catalogue, on="item_id", how="left")
    log = log[log["query"].isin(grades.loc[grades["group"] == "train", "query"])]
    query, queries = pd.factorize(log["query"], sort=True)
    title, titles = pd.factorize(log["title"], sort=True)
    click = log["impression_id"].isin(clicks["impression_id"]).to_numpy(np.int64)
    position, shuffled = log["position"].to_numpy(), log["randomised"].to_numpy() == 1
    seen = from_shuffled_pages(position[shuffled], click[shuffled]).values
    weight = click / seen[np.minimum(position, len(seen)) - 1]
    columns = {
        f.QUERY_ID: query, f.TITLE_ID: title, f.CLICK: click,
        f.positive_weight(f.CTR): weight, f.negative_weight(f.CTR): 1 - weight,
    }  # fmt: skip
    texts = [[str(text).encode() for text in own] for own in (queries, titles)]
    return Shop(columns, *texts, grades[grades["group"] == "test"].reset_index(drop=True))


def judge(test: pd.DataFrame, text: TextSettings) -> GroupMean:
    """NDCG@10 of each unseen query, ranked by the cosine."""
    encoder = load_encoder(text)
    vectors = [
        embed(test[column].astype(str).tolist(), encoder, text.batch_size, text.batch_tokens)
        for column in ("query", "title")
    ]
    score = (vectors[0] * vectors[1]).sum(axis=1)
    return ndcg_at_k(test["grade"].to_numpy(), score, test["query"].to_numpy(), 10)


def _read(folder: Path) -> pd.DataFrame:
    return pa.concat_tables([pq.read_table(p) for p in sorted(folder.glob("span-*"))]).to_pandas()


def _tell(step: Step) -> None:
    if step.done % 50 == 0:
        print(
            f"  step {step.done} of {step.total}, loss {step.loss:.3f}, "
            f"{step.pairs_per_second:.0f} pairs/s, {step.seconds_left:.0f} s left",
            flush=True,
        )


if __name__ == "__main__":
    main()
