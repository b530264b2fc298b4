"""Five days, one after another: going on from yesterday's model, or beginning anew each day.

    .venv/bin/python -m benchmarks.model.continual

Each day has its own impressions, weights, vocabularies of category and brand, and projections
of text vectors, as a span has in the pipeline; the trainer, its warm start and the calibration
are the pipeline's. `warm` begins with the weights of the day before, `cold` anew; both have the
same rows, settings and epochs. Ranking is judged on human grades of queries that no log
contains, the log loss on the impressions of the day after, at their positions. The last line is
one JSON object.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import keras
import numpy as np
from scipy import stats

from benchmarks.importance.arms import Arms
from benchmarks.importance.clicks import ClickLog, make_log
from benchmarks.importance.recovery import simulation_settings
from benchmarks.model import rows
from benchmarks.seeds import each_seed
from heft import features as f
from heft.evaluation.grouped import ndcg_at_k
from heft.evaluation.metrics import Auc, err_gain
from heft.model.network import InputSizes
from heft.model.rates import Rates
from heft.model.settings import ModelSettings
from heft.model.training import Trained
from heft.model.warm_start import Lineage, WarmStart, warm_start
from heft.simulate import SimulationSettings
from heft.simulate.sessions import DAY_MS, START_MS
from heft.text.reduction import reduce_vectors
from heft.text.settings import TextSettings
from heft.transform import TransformSettings

ARMS = ("warm", "cold")
METRICS = ("auc", "ndcg_at_10", "log_loss")

Array = np.ndarray


def main() -> None:
    """Runs every seed and prints a table and the figures."""
    options = _options()
    found = each_seed(options.seeds, lambda seed: _seed(seed, options))
    _print(np.array(found), options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="home_depot")
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=2_000, help="of one day")
    parser.add_argument(
        "--warm-rate", type=float, default=ModelSettings().learning_rate,
        help="learning rate of days that go on from another",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103, 104, 105])
    return parser.parse_args()


@dataclass(frozen=True)
class Day:
    """What the pipeline would have of one span.

    Attributes:
        log: its impressions; the projections are fitted on them.
        columns: weighted rows with the ids of this day's vocabularies.
        lineage: of a model that is trained on them.
        clicks: (positions, 2) of the click model.
    """

    log: ClickLog
    columns: rows.Columns
    lineage: Lineage
    clicks: Array

    @property
    def sizes(self) -> InputSizes:
        """Of the inputs."""
        sizes = {name: len(values) + 1 for name, values in self.lineage.vocabularies.items()}
        return InputSizes(sizes, rows.SIZES.numeric)


def _seed(seed: int, options: argparse.Namespace) -> Array:
    """(days, arms, metrics)."""
    asked = argparse.Namespace(
        data=options.data, sessions=options.sessions * (options.days + 1), eta=1.0, bots=0.05,
        noise=0.0, shuffled=0.02, popularity=0.0,
    )  # fmt: skip
    changes = {"seed": seed, "days": options.days + 1}
    shop = simulation_settings(asked).model_copy(update=changes)
    log = make_log(shop)
    when = (log.data.timestamp - START_MS) // DAY_MS
    settings = ModelSettings(seed=seed)
    found, yesterday = [], None
    for number in range(options.days):
        day = _day(log, when == number, shop, seed)
        tomorrow = rows.part(log, when == number + 1)
        rate = {"learning_rate": options.warm_rate} if number else {}
        warm, rates = _train(day, settings.model_copy(update=rate), yesterday)
        yesterday = WarmStart(day.lineage, _weights(warm.core), f"day {number + 1}")
        # On the first day there is nothing to go on from: both are the same.
        models = [(warm, rates), _train(day, settings, None) if number else (warm, rates)]
        found.append([_judge(*model, day, tomorrow) for model in models])
    return np.array(found)


def _day(log: ClickLog, chosen: Array, shop: SimulationSettings, seed: int) -> Day:
    some = _as_known_then(rows.part(log, chosen))
    arms = Arms(some, shop, seed)
    pairs = rows.heft_pairs(some, arms)
    model = arms.model_no_shuffle
    some = replace(some, table=replace(some.table, reduction=_reduction(some)))
    vocabularies = {
        f.categorical_id(name): _vocabulary(values[some.pair_of])
        for name, values in some.pair_values.items()
    }
    columns = rows.columns(some, pairs)
    columns |= {
        f.categorical_id(name): _ids(values, vocabularies[f.categorical_id(name)])[some.pair_of]
        for name, values in some.pair_values.items()
    }
    lineage = Lineage(some.table.fingerprint, rows.SIZES.dense, vocabularies)
    lines = np.stack([model.slope, model.offset], axis=1).astype(np.float32)
    return Day(some, columns, lineage, lines)


def _as_known_then(log: ClickLog) -> ClickLog:
    """Without the conversions that come after the last impression of these."""
    data = log.data
    clicked = data.timestamp / 1000 + np.nan_to_num(data.click_delay)
    left = data.timestamp.max() / 1000 - clicked
    delay = np.where(data.delay <= left, data.delay, np.nan).astype(np.float32)
    return replace(log, data=replace(data, delay=delay, elapsed=np.maximum(left, 0.0)))


def _reduction(log: ClickLog) -> object:
    pairs, counts = np.unique(log.pair_texts[log.pair_of], axis=0, return_counts=True)
    return reduce_vectors(log.table.queries, log.table.titles, pairs, counts, TextSettings())


def _vocabulary(values: Array) -> tuple[str, ...]:
    """The values of a column as Transform keeps them: the most frequent first."""
    known, counts = np.unique(values[values != ""], return_counts=True)
    settings = TransformSettings()
    order = np.argsort(-counts, kind="stable")[: settings.vocabulary_size]
    return tuple(str(known[k]) for k in order if counts[k] >= settings.minimum_count)


def _ids(values: Array, vocabulary: tuple[str, ...]) -> Array:
    row = {value: k for k, value in enumerate(vocabulary)}
    return np.array([row.get(value, len(vocabulary)) for value in values.tolist()])


def _weights(core: keras.Model) -> dict[str, list[Array]]:
    found = {layer.name: layer.get_weights() for layer in core.layers}
    return {name: weights for name, weights in found.items() if weights}


def _train(day: Day, settings: ModelSettings, base: WarmStart | None) -> tuple[Trained, Rates]:
    prepare: Callable[[keras.Model], object] | None = None
    if base is not None:

        def prepare(core: keras.Model) -> object:
            return warm_start(core, day.lineage, base)

    tune = rows.tune_rows(day.log)
    found, rates = rows.fit(
        rows.take(day.columns, ~tune), rows.take(day.columns, tune), day.log.table, settings,
        sizes=day.sizes, prepare=prepare, clicks=day.clicks,
    )  # fmt: skip
    assert rates is not None
    return found, rates


def _judge(model: Trained, rates: Rates, day: Day, tomorrow: ClickLog) -> list[float]:
    """AUC and NDCG@10 on grades, log loss of tomorrow's clicks."""
    test, grade = tomorrow.test_pairs, tomorrow.test_grade.astype(float)
    asked, place = np.unique(np.concatenate([test, tomorrow.pair_of]), return_inverse=True)
    logits = rows.logits(model, _inputs(day, asked))[place].astype(np.float32)
    score, shown = logits[: len(test), 0], logits[len(test) :]
    auc = Auc(err_gain(grade, 3), score).value(np.ones(len(test)))
    ndcg = ndcg_at_k(grade, score, tomorrow.test_query, 10).value(np.ones(len(test)))
    ctr = rates.tensors(shown, tomorrow.data.position)[f.CTR].numpy().clip(1e-6, 1 - 1e-6)
    label = tomorrow.data.label
    loss = -(label * np.log(ctr) + (1 - label) * np.log1p(-ctr)).mean()
    return [float(auc), float(ndcg), float(loss)]


def _inputs(day: Day, pairs: Array) -> dict[str, Array]:
    log = day.log
    return {
        f.QUERY_ID: log.pair_texts[pairs, 0],
        f.TITLE_ID: log.pair_texts[pairs, 1],
        "dense": log.pair_dense[pairs].astype(np.float32),
        **{
            f.categorical_id(n): _ids(v[pairs], day.lineage.vocabularies[f.categorical_id(n)])
            for n, v in log.pair_values.items()
        },
    }


def _print(found: Array, options: argparse.Namespace) -> None:
    """`found` is (seeds, days, arms, metrics)."""
    gaps = found[:, :, 0] - found[:, :, 1]
    print("\n| day | metric | warm | cold | warm − cold | 95 % over seeds |")
    print("|---|---|---|---|---|---|")
    facts = []
    for day in range(options.days):
        for k, metric in enumerate(METRICS):
            mean, (low, high) = found[:, day, :, k].mean(axis=0), _interval(gaps[:, day, k])
            gap = float(gaps[:, day, k].mean())
            values = " | ".join(f"{value:.4f}" for value in mean)
            print(f"| {day + 1} | {metric} | {values} | {gap:+.4f} | {low:+.4f} … {high:+.4f} |")
            facts.append(
                {
                    "day": day + 1,
                    "metric": metric,
                    **dict(zip(ARMS, mean.round(4).tolist(), strict=True)),
                    "gap": round(gap, 4),
                    "interval": [round(low, 4), round(high, 4)],
                }
            )
    later = gaps[:, 1:].mean(axis=1)
    overall = {
        metric: [round(float(x), 4) for x in (later[:, k].mean(), *_interval(later[:, k]))]
        for k, metric in enumerate(METRICS)
    }
    print(f"warm − cold over days 2 to {options.days}: {overall}")
    settings = {name: value for name, value in vars(options).items() if name != "seeds"}
    print(
        json.dumps(
            {
                "seeds": options.seeds,
                "settings": settings,
                "warm_minus_cold": overall,
                "days": facts,
            }
        )
    )


def _interval(gap: Array) -> tuple[float, float]:
    """Student's 95 % over seeds; each is another shop, with other unseen queries."""
    if len(gap) < 2:
        return float(gap.mean()), float(gap.mean())
    spread = float(stats.t.ppf(0.975, len(gap) - 1) * stats.sem(gap))
    return float(gap.mean()) - spread, float(gap.mean()) + spread


if __name__ == "__main__":
    main()
