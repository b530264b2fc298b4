"""Does another shop's log help one that has little? From home_depot to chorus.

    .venv/bin/python -m benchmarks.model.transfer

Source and target have their own queries, products and shoppers; clicks are simulated over
both. The target's model is judged on human grades of queries that no log contains. Arms:

    target         the target's impressions alone
    source         the source's alone
    both           the impressions of both shops, in one training
    fine_tuned     trained on the source, gone on with on the target
    ratio          the same, source samples weighed by `domain_ratio`
    ratio_both     the impressions of both, the source's weighed by `domain_ratio`

Each with shares of the target's impressions, whole pages of them. Where those are too few to
tell how examination falls with position, every arm takes the source's click model for them. The
last line is one JSON object.
"""

import argparse
import json
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.recovery import simulation_settings
from benchmarks.model import rows
from benchmarks.seeds import each_seed
from heft import features as f
from heft.errors import DataError
from heft.evaluation.grouped import ndcg_at_k
from heft.evaluation.metrics import Auc, err_gain
from heft.importance import ClickModel, DomainRatio, ImportanceData
from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.model.warm_start import Lineage, WarmStart, warm_start
from heft.simulate import SimulationSettings
from heft.text.table import TextTable

METRICS = ("auc", "ndcg_at_10")
ARMS = ("target", "source", "both", "ratio_both", "fine_tuned", "ratio")

Array = np.ndarray
Pairs = dict[str, Array]


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    options = _options()
    found = each_seed(options.seeds, lambda seed: _seed(seed, options))
    _print(found, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="home_depot")
    parser.add_argument("--target", default="chorus")
    parser.add_argument("--source-sessions", type=int, default=5_000)
    parser.add_argument("--target-sessions", type=int, default=3_000)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.01, 0.05, 1.0])
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate of fine-tuning")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    return parser.parse_args()


def _seed(seed: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Metrics by arm and share."""
    from_source, source = _shop(options.source, options.source_sessions, seed)
    arms = Arms(source, from_source, seed)
    source_pairs, examination = rows.heft_pairs(source, arms), arms.model_no_shuffle
    shop, target = _shop(options.target, options.target_sessions, seed)
    together = _in_one_table(source, target)
    source = replace(source, table=together.table)
    settings = ModelSettings(seed=seed)
    fine = settings.model_copy(update={"learning_rate": options.rate})
    base = rows.trained(source, source_pairs, settings)
    found = {f"source {share:g}": _judge(base, together) for share in options.shares}
    for share in options.shares:
        pages = _pages(target.data, share, seed)
        some, alone = rows.part(together, pages), rows.part(target, pages)
        pairs = _weights(some, shop, seed, examination)
        ratio = _ratio(source, some, seed)
        weighed = {task: pair * ratio[:, None] for task, pair in source_pairs.items()}
        likely = rows.trained(source, weighed, settings)
        found[f"target {share:g}"] = _judge(rows.trained(alone, pairs, settings), target)
        models = {
            "both": _both(source, source_pairs, some, pairs, settings),
            "ratio_both": _both(source, weighed, some, pairs, settings),
            "fine_tuned": _go_on(base, some, pairs, fine),
            "ratio": _go_on(likely, some, pairs, fine),
        }
        found |= {f"{name} {share:g}": _judge(model, together) for name, model in models.items()}
        found[f"ess {share:g}"] = [float(ratio.sum() ** 2 / (ratio**2).sum() / len(ratio))]
        found[f"rows {share:g}"] = [float(pages.sum())]
    return found


def _shop(name: str, sessions: int, seed: int) -> tuple[SimulationSettings, ClickLog]:
    """A shop and its log."""
    asked = argparse.Namespace(
        data=name, sessions=sessions, eta=1.0, bots=0.05, noise=0.0, shuffled=0.02, popularity=0.0
    )
    settings = simulation_settings(asked).model_copy(update={"seed": seed})
    return settings, make_log(settings)


def _weights(log: ClickLog, shop: SimulationSettings, seed: int, examination: ClickModel) -> Pairs:
    """Weight pairs; a log too small to tell how people look borrows the source's click model."""
    arms = Arms(log, shop, seed)
    try:
        _ = arms.model_no_shuffle
    except DataError:
        arms.__dict__["model_no_shuffle"] = examination
    return rows.heft_pairs(log, arms)


def _in_one_table(source: ClickLog, target: ClickLog) -> ClickLog:
    """The target's log with the texts of both shops, and the source's projections of them."""
    old, new = source.table, target.table
    table = replace(
        old,
        queries=np.concatenate([old.queries, new.queries]),
        titles=np.concatenate([old.titles, new.titles]),
        query_texts=[*old.query_texts, *new.query_texts],
        title_texts=[*old.title_texts, *new.title_texts],
    )
    texts = target.pair_texts + np.array([len(old.queries), len(old.titles)])
    return replace(target, table=table, pair_texts=texts)


def _pages(data: ImportanceData, share: float, seed: int) -> Array:
    """(n,) True for the impressions of a share of the pages."""
    pages = np.unique(data.group)
    count = max(round(share * len(pages)), 1)
    chosen = np.random.default_rng(seed).permutation(pages)[:count]
    return np.isin(data.group, chosen)


def _ratio(source: ClickLog, target: ClickLog, seed: int) -> Array:
    """(n,) how much more likely each source impression is in the target; mean 1."""
    domain = np.repeat([0, 1], [len(source.data), len(target.data)])
    features = np.concatenate(
        [_features(log, target.table)[log.pair_of] for log in (source, target)]
    )
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    features = (features - mean) / np.where(deviation > 1e-6, deviation, 1.0)
    shift = source.data.group.max() + 1
    data = ImportanceData.of(
        features,
        np.concatenate([source.data.label, target.data.label]),
        group=np.concatenate([source.data.group, target.data.group + shift]),
        domain=domain,
    )
    weight = DomainRatio(random_state=seed).fit(data).weight(data)
    return weight[domain == 0].astype(float)


def _features(log: ClickLog, table: TextTable) -> Array:
    """(pairs, d): how query and title match. What they are about tells the shops apart at once."""
    texts = log.pair_texts
    cosine = (table.queries[texts[:, 0]] * table.titles[texts[:, 1]]).sum(axis=1, keepdims=True)
    return np.concatenate([cosine, log.pair_dense[:, : len(f.LEXICAL)]], axis=1)


def _both(
    source: ClickLog, source_pairs: Pairs, target: ClickLog, pairs: Pairs, settings: ModelSettings
) -> Trained:
    """One training on the rows of both, watched by the target's tune rows."""
    tune = rows.tune_rows(target)
    own = rows.columns(target, pairs)
    mixed = rows.joined(rows.columns(source, source_pairs), rows.take(own, ~tune))
    return rows.fit(mixed, rows.take(own, tune), target.table, settings)[0]


def _go_on(base: Trained, target: ClickLog, pairs: Pairs, settings: ModelSettings) -> Trained:
    """The base's weights, trained on with the target's rows."""
    tune, own = rows.tune_rows(target), rows.columns(target, pairs)
    lineage = Lineage(target.table.fingerprint, rows.SIZES.dense, {})
    weights = {layer.name: layer.get_weights() for layer in base.core.layers}
    start = WarmStart(lineage, {n: w for n, w in weights.items() if w}, "the source's model")
    return rows.fit(
        rows.take(own, ~tune), rows.take(own, tune), target.table, settings,
        prepare=lambda core: warm_start(core, lineage, start),
    )[0]  # fmt: skip


def _judge(model: Trained, log: ClickLog) -> list[float]:
    """AUC and NDCG@10 on the grades of unseen queries."""
    click, _ = rows.predict(model, log, log.test_pairs)
    grade, ones = log.test_grade.astype(float), np.ones(len(log.test_pairs))
    metrics = Auc(err_gain(grade, 3), click), ndcg_at_k(grade, click, log.test_query, 10)
    return [float(metric.value(ones)) for metric in metrics]


def _print(found: list[dict[str, list[float]]], options: argparse.Namespace) -> None:
    facts: dict[str, dict] = {}
    print(
        "\n| target's impressions | arm | AUC | NDCG@10 | AUC − target's | 95 % | NDCG − | 95 % |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for share in options.shares:
        count = np.mean([one[f"rows {share:g}"] for one in found])
        for arm in ARMS:
            values = np.array([one[f"{arm} {share:g}"] for one in found])
            gap = values - np.array([one[f"target {share:g}"] for one in found])
            spans = [_interval(gap[:, k]) for k in range(len(METRICS))]
            facts[f"{arm} {share:g}"] = {
                **dict(zip(METRICS, values.mean(axis=0).round(4).tolist(), strict=True)),
                **{
                    f"{name}_gain": [round(float(gap[:, k].mean()), 4), *spans[k]]
                    for k, name in enumerate(METRICS)
                },
                "auc_by_seed": values[:, 0].round(4).tolist(),
            }
            cells = [f"{mean:.4f}" for mean in values.mean(axis=0)]
            for k in range(len(METRICS)):
                cells += [f"{gap[:, k].mean():+.4f}", f"{spans[k][0]:+.4f} … {spans[k][1]:+.4f}"]
            print(f"| {share:.0%}, {count:,.0f} | {arm} | {' | '.join(cells)} |")
    ess = {f"{share:g}": _mean(found, f"ess {share:g}") for share in options.shares}
    print(f"effective share of the source's impressions under domain_ratio: {ess}")
    settings = {name: value for name, value in vars(options).items() if name != "seeds"}
    print(json.dumps({"seeds": options.seeds, "settings": settings, "ess": ess, "arms": facts}))


def _mean(found: list[dict[str, list[float]]], name: str) -> float:
    return round(float(np.mean([one[name] for one in found])), 3)


def _interval(gap: Array) -> list[float]:
    """Student's 95 % over seeds; each is another shop, with other unseen queries."""
    if len(gap) < 2 or not gap.any():
        return [round(float(gap.mean()), 4)] * 2
    spread = float(stats.t.ppf(0.975, len(gap) - 1) * stats.sem(gap))
    return [round(float(gap.mean()) - spread, 4), round(float(gap.mean()) + spread, 4)]


if __name__ == "__main__":
    main()
