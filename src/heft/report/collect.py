"""A run's facts, gathered from what its nodes wrote."""

import json
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from heft.evaluation.judging import VERDICT_FILE
from heft.evaluation.verdict import SUSPICIOUS
from heft.explain import Word, explain_pairs
from heft.features import CTR
from heft.importance.estimate import SUMMARY_FILE
from heft.model.run import HISTORY_FILE, SELECTION_FILE
from heft.report.page import render
from heft.report.thresholds import failed_thresholds
from heft.selection.map import TitleMap
from heft.selection.ranking import EMBEDDING, FeatureRanking
from heft.selection.shap_summary import ShapSummary
from heft.selection.weight_slices import WeightSlices
from heft.text.table import TextTable

__all__ = ["FACTS_FILE", "PAGE_FILE", "Sources", "collect", "gate_facts", "write_report"]

FACTS_FILE = "facts.json"
PAGE_FILE = "index.html"
INGEST_FILE = "summary.json"
GATE_FILE = "gate.json"
_EXPLAINED = 20  # samples of a kind
_DIMENSIONS = 4  # shown of each kind of vector


@dataclass(frozen=True)
class Sources:
    """Folders of a run's artifacts, and what the gates said."""

    quarantine: str
    embeddings: str
    importance: str
    ranking: str
    model: str
    model_run: str
    evaluation: str
    verdict: str
    evaluator_blessed: bool
    blessed: bool
    serving_blessed: bool
    serving_reason: str
    pushed: bool
    model_path: str
    anomalies: str | None = None


def write_report(sources: Sources, run: dict[str, Any], output_uri: str) -> dict[str, Any]:
    """Writes `facts.json` and `index.html`; returns the facts.

    Args:
        sources: see `Sources`.
        run: facts known before the run (name, lineage), kept as they are.
        output_uri: an existing or new folder.
    """
    facts = run | collect(sources)
    folder = Path(output_uri)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (folder / PAGE_FILE).write_text(render(facts), encoding="utf-8")
    return facts


def collect(sources: Sources) -> dict[str, Any]:
    """Facts in the shape of `heft.report.facts.Facts`."""
    table = TextTable.load(sources.embeddings)
    comparison = _json(sources.verdict, VERDICT_FILE)
    return {
        **_ingested(_json(sources.quarantine, INGEST_FILE)),
        "gate": gate_facts(sources.anomalies),
        "distinct_texts": {"queries": len(table.queries), "titles": len(table.titles)},
        "importance": _importance(_json(sources.importance, SUMMARY_FILE), table, sources.model)
        | _weight_slices(sources.ranking),
        "ranking": _ranking(sources),
        "training": _json(sources.model_run, HISTORY_FILE),
        "comparison": comparison,
        "blessed": sources.blessed and sources.serving_blessed,
        "blessing_reasons": _reasons(sources, comparison),
        "pushed": sources.pushed,
        "model_path": sources.model_path or None,
    }


def _json(uri: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(uri) / name).read_text(encoding="utf-8"))
    return found


def _ingested(report: dict[str, Any]) -> dict[str, Any]:
    """Rows of all streams, and of each."""
    streams = report["streams"]
    totals = {
        name: sum(stream[name] for stream in streams.values())
        for name in ("read", "duplicates", "quarantined")
    }
    return {
        "rows": {
            "read": totals["read"],
            "written": sum(report["splits"].values()),
            "splits": report["splits"],
        },
        "duplicates": totals["duplicates"],
        "quarantined": totals["quarantined"],
        "streams": streams,
    }


def gate_facts(uri: str | None) -> dict[str, Any] | None:
    """What AnomalyGate compared; None where it left no facts."""
    there = uri is not None and (Path(uri) / GATE_FILE).is_file()
    return _json(uri, GATE_FILE) if uri is not None and there else None


def _weight_slices(ranking: str) -> dict[str, Any]:
    found = WeightSlices.load(ranking)
    return {"slices": [asdict(part) for part in found.slices] if found else []}


def _importance(summary: dict[str, Any], table: TextTable, model: str) -> dict[str, Any]:
    """The summary with texts in place of their ids, and what the model makes of their words."""
    whole = []
    for samples in summary["samples"].values():
        for place, sample in enumerate(samples):
            sample["query"] = _text(table.query_texts, sample.pop("query_id"))
            sample["title"] = _text(table.title_texts, sample.pop("title_id"))
            there = sample["query"] is not None and sample["title"] is not None
            if there and place < _EXPLAINED:
                whole.append(sample)
    if whole:
        queries, titles = ([sample[side] for sample in whole] for side in ("query", "title"))
        explained = explain_pairs(Path(model), queries, titles, {})
        for sample, found in zip(whole, explained, strict=True):
            sample["words"] = {
                "query": [_word(word) for word in found.query_words],
                "title": [_word(word) for word in found.title_words],
            }
    return summary


def _word(word: Word) -> dict[str, Any]:
    figures = {"integrated": word.integrated, "rollout": word.rollout}
    return {"text": word.text} | {name: round(value, 5) for name, value in figures.items()}


def _most_telling(ranking: str) -> str:
    """Where to look for a label among the features: it tells the most of clicks."""
    feature = FeatureRanking.load(ranking).features[0]
    found = feature.measures[CTR]["correlation"]
    correlation = "" if found is None else f", with a correlation of {found:.3f}"
    return f"Of single features {feature.name} tells the most of clicks{correlation}."


def _ranking(places: Sources) -> dict[str, Any]:
    """All that the model may see, and of the dimensions of the embeddings the best."""
    ranking = FeatureRanking.load(places.ranking)
    dimensions = [x for x in ranking.features if x.kind == EMBEDDING]
    sources = ("query", "title", "product")
    best = ([x.name for x in dimensions if x.source == own][:_DIMENSIONS] for own in sources)
    shown = set(chain(*best))
    features = [
        {"name": x.name, "kind": x.kind, "measures": x.measures}
        for x in ranking.features
        if x.kind != EMBEDDING or x.name in shown
    ]
    chosen = Path(places.model_run) / SELECTION_FILE
    drawn = TitleMap.load(places.ranking)
    explained = ShapSummary.load(places.ranking)
    return {
        "rows": ranking.rows,
        "of": ranking.of,
        "weighted": ranking.settings.weighted,
        "dimensions": len(dimensions),
        "features": features,
        "kept": json.loads(chosen.read_text())["kept"] if chosen.is_file() else None,
        "map": asdict(drawn) if drawn else None,
        "shap": asdict(explained) if explained else None,
    }


def _text(vocabulary: list[bytes], index: int) -> str | None:
    return vocabulary[index].decode(errors="replace") if index >= 0 else None


def _reasons(sources: Sources, comparison: dict[str, Any]) -> list[str]:
    """Why the model is not blessed, one sentence per gate that said no."""
    reasons = []
    if not sources.evaluator_blessed:
        reasons += failed_thresholds(sources.evaluation)
    reasons += comparison["verdict"]["objections"]
    if any(line.startswith(SUSPICIOUS) for line in comparison["verdict"]["objections"]):
        reasons.append(_most_telling(sources.ranking))
    if not sources.serving_blessed:
        reasons.append(f"Serving check failed: {sources.serving_reason or 'no reason given'}")
    return reasons
