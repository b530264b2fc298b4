"""The facts of a run as the nodes write them, from a real comparison."""

import copy
from typing import Any

import numpy as np
import pytest

from heft.evaluation import (
    BootstrapSettings,
    EvaluationSettings,
    FairnessSettings,
    ViewData,
    compare,
)

QUERIES = ("usb c cable", "running shoes", "coffee grinder", "winter jacket")


@pytest.fixture(scope="session")
def made() -> dict[str, Any]:
    return full_facts()


@pytest.fixture
def facts(made: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(made)


def full_facts() -> dict[str, Any]:
    """A run in which everything happened, with JSON values only."""
    settings = EvaluationSettings(
        bootstrap=BootstrapSettings(resamples=100),
        slice_resamples=20,
        min_slice_rows=50,
        fairness=FairnessSettings(columns=("device",), maximum_calibration_gap=2.0),
    )
    views = {name: _view(name) for name in ("natural", "shuffled", "graded")}
    comparison = compare(views, settings, "last blessed model")
    return {
        "name": "chorus",
        "created": "2025-03-01T12:00:00Z",
        "rows": {"read": 251_000, "written": 248_800, "splits": {"train": 160_000, "tune": 9_000}},
        "streams": {
            "impressions": {
                "read": 240_000,
                "written": 238_900,
                "duplicates": 700,
                "quarantined": 400,
                "reasons": {"position=0 is below 1": 250, "timestamp is missing": 150},
            },
            "clicks": {
                "read": 11_000,
                "written": 9_900,
                "duplicates": 80,
                "quarantined": 20,
                "unattributed": {"no impression": 1_000},
                "reasons": {"impression_id is missing": 20},
            },
        },
        "gate": _gate(),
        "distinct_texts": {"queries": 1_204, "titles": 8_310},
        "seconds": {"LogExampleGen": 12.4, "Transform": 31.0, "TextEmbedder": 8.2, "Pusher": 0.1},
        "comparison": comparison.model_dump(mode="json"),
        "blessed": True,
        "blessing_reasons": ["All value thresholds were met."],
        "pushed": True,
        "model_path": "runs/chorus/serving/heft/1",
        "report_path": "runs/chorus/report/index.html",
        "importance": _importance(),
        "ranking": _ranking(),
        "training": {
            "weighted": {"loss": [0.61, 0.5, 0.46], "val_loss": [0.58, 0.52, 0.51]},
            "control": {"loss": [0.4, 0.35, 0.33], "val_loss": [0.39, 0.36, None]},
        },
        "lineage": {
            "seed": 7,
            "span": 3,
            "config": "pipeline/configs/chorus.yaml",
            "source_digest": "3f9ac01b77e2",
            "versions": {"heft": "0.1.0", "tensorflow": "2.21.0"},
            "artifacts": [
                {"name": "model", "type": "Model", "id": 31, "uri": "runs/chorus/artifacts/31"},
                {"name": "verdict", "type": "HeftWeightingVerdict", "id": 40, "uri": "runs/40"},
            ],
        },
    }


def _view(name: str) -> ViewData:
    rng = np.random.default_rng(len(name))
    rows = 3_000
    truth = rng.normal(size=rows) - 1.5
    click = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(int)
    models = [
        {"ctr": ctr, "ctcvr": ctr * 0.2}
        for ctr in (1 / (1 + np.exp(-truth - rng.normal(size=rows) * s)) for s in (0.4, 1.2, 0.8))
    ]
    keys = np.array([f"g{i // 10}" for i in range(rows)], object)
    graded = name == "graded"
    return ViewData(
        name,
        *models[:2],
        baseline=models[2],
        user=None if graded else np.array([f"u{i // 30}" for i in range(rows)], object),
        click=None if graded else click,
        conversion=None if graded else click * (rng.random(rows) < 0.2),
        grade=np.clip(np.round(truth + 2), 0, 3) if graded else None,
        request=None if graded else keys,
        query=keys if graded else None,
        slices={
            "device": rng.choice(["phone", "desktop"], rows),
            "query_frequency": rng.choice(["head", "torso", "tail", "unseen"], rows),
        },
    )


def _importance() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    edges = np.linspace(0, 8, 41)
    tasks = {}
    for task, rows in (("ctr", 160_000), ("cvr", 160_000)):
        positive = np.histogram(rng.gamma(3, 1.0, 8_000), edges)[0]
        negative = np.histogram(rng.gamma(8, 0.13, 152_000), edges)[0]
        tasks[task] = {
            "rows": rows,
            "positives": 8_000,
            "ess": 96_412.5,
            "clip": 10.0,
            "histograms": {
                "edges": edges.tolist(),
                "positive": positive.tolist(),
                "negative": negative.tolist(),
            },
            "corrections": {
                "fraud": {
                    "points": [0.01, 0.1, 0.5, 0.9, 0.99],
                    "positive": [0.0, 0.0, 1.0, 1.0, 1.0],
                    "negative": [0.0, 1.0, 1.0, 1.0, 1.0],
                    "mean": 0.951,
                }
            },
            "scores": {
                "label_quality": {
                    "points": [0.01, 0.1, 0.5, 0.9, 0.99],
                    "positive": [0.02, 0.11, 0.48, 0.81, 0.93],
                    "negative": [0.3, 0.6, 0.9, 0.97, 0.99],
                }
            },
        }
    values = [1.0, 0.71, 0.52, 0.4, 0.33, 0.27, 0.24, 0.22, 0.2, 0.19]
    return {
        "tasks": tasks,
        "examination": {
            "positions": list(range(1, 11)),
            "values": values,
            "clicks": 4_120,
            "source": "shuffled pages",
        },
        "clicks": {
            "positions": list(range(1, 11)),
            "slope": [0.8 * value for value in values],
            "offset": [0.15, 0.08, 0.04, 0.02, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0],
            "clicks": 20_400,
            "source": "query-item pairs, levels",
        },
        "samples": {"heaviest": _samples(1, 12), "lightest": _samples(0, 12)},
        "slices": [
            {
                "column": column,
                "value": value,
                "rows": 9_000 - 700 * k,
                "clicks": 900 - 60 * k,
                "mean": 0.6 + 0.2 * k,
                "quantiles": [0.1, 1.0, 2.0 + k],
                "ess": 0.9 - 0.1 * k,
            }
            for k, (column, value) in enumerate(
                [
                    ("position", "1"),
                    ("position", "2"),
                    ("category", "cables"),
                    ("category", "shoes"),
                ]
            )
        ],
    }


def _gate() -> dict[str, Any]:
    return {
        "format": 1,
        "span": 3,
        "compared_with": [2, 1],
        "notes": ["Skew was not checked: no serving statistics are given."],
        "measured": [
            {
                "split": "train", "feature": name, "against": "span 2", "measure": "L-infinity",
                "value": value, "threshold": 0.1,
            }
            for name, value in (("category", 0.031), ("device", 0.07))
        ],
        "labels": {"rows": 160_000, "ctr": 0.062, "cvr": 0.11, "orphan_share": 0.09},
        "usual_labels": {"rows": 150_000, "ctr": 0.06, "cvr": 0.12, "orphan_share": 0.1},
        "known_labels": [{"feature": "price", "task": "ctr", "auc": 0.55, "rows": 9}],
    }  # fmt: skip


def _samples(click: int, how_many: int) -> list[dict[str, Any]]:
    return [
        {
            "query": QUERIES[k % len(QUERIES)],
            "title": f"{QUERIES[k % len(QUERIES)].title()}, model {k}, black, with case",
            "impression_id": f"i{k}",
            "position": 10 - k % 10,
            "click": click,
            "positive_weight": 5.2 - k / 10 if click else 0.0,
            "negative_weight": -4.2 + k / 10 if click else 0.11,
            "scores": {"label_quality": 0.01 + 0.05 * k, "el2n": 0.9 - 0.05 * k},
            "words": {
                "query": [{"text": "usb", "integrated": 0.4, "rollout": 0.1}],
                "title": [
                    {"text": "cable", "integrated": -0.2, "rollout": 0.3},
                    {"text": "black", "integrated": 0.01, "rollout": 0.05},
                ],
            },
        }
        for k in range(how_many)
    ]


def _ranking() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    measures = {"correlation": -0.31234, "rank_correlation": 0.25, "mutual_information": 0.0421}
    category = measures | {"rank_correlation": None}
    names = (("cosine", "component", measures), ("brand_id", "category", category))
    return {
        "rows": 100_000,
        "of": 160_000,
        "weighted": True,
        "dimensions": 1_152,
        "features": [
            {"name": name, "kind": kind, "measures": {"ctr": own, "cvr": own}}
            for name, kind, own in names
        ],
        "kept": None,
        "map": {
            "x": rng.normal(size=40).tolist(),
            "y": rng.normal(size=40).tolist(),
            "category": ["shoes", "cables"] * 20,
            "importance": rng.random(40).tolist(),
        },
        "shap": {
            "rows": 2_000,
            "features": [
                {"name": "cosine", "mean": 0.4, "direction": 0.9},
                {"name": "price_z", "mean": 0.2, "direction": -0.7},
                {"name": "brand_id", "mean": 0.1, "direction": None},
            ],
        },
    }
