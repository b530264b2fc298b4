"""Click logs whose curve of examination is known, no pair in them twice."""

from dataclasses import replace

import numpy as np

from heft.importance.base import ImportanceData

# The simulator's curve, relative to the first position.
CURVE = np.array([0.68, 0.61, 0.48, 0.34, 0.28, 0.20, 0.11, 0.10, 0.08, 0.06]) / 0.68


def make_clicks(
    requests: int = 4_000, eta: float = 1.0, unseen: float = 0.0, seed: int = 0
) -> tuple[ImportanceData, np.ndarray]:
    """Pages of ten that a ranker which knows much sorted; and θ by position.

    Args:
        requests: how many pages.
        eta: exponent of the curve.
        unseen: how much of attractiveness the ranker knows and the features do not.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    rows, theta = 10 * requests, CURVE**eta
    features = rng.normal(size=(rows, 5)).astype(np.float32)
    logit = 1.5 * features[:, 0] - features[:, 1] + unseen * rng.normal(size=rows) - 0.5
    belief = (logit + rng.normal(size=rows)).reshape(requests, 10)
    position = 1 + np.argsort(np.argsort(-belief, axis=1), axis=1).ravel()
    chance = 0.8 * theta[position - 1] / (1 + np.exp(-logit))
    data = ImportanceData.of(
        features,
        (rng.random(rows) < chance).astype(np.int64),
        position=position.astype(np.int64),
        group=np.repeat(np.arange(requests), 10),
    )
    return data, theta


def relative_error(values: np.ndarray, theta: np.ndarray, top: int = 10) -> float:
    """Mean of |estimate / truth − 1| over the first `top` positions."""
    return float(np.abs(values[:top] / theta[:top] - 1).mean())


def click_rates(data: ImportanceData) -> np.ndarray:
    """By position, relative to the first: what a log says before anything is taken out of it."""
    rate = np.bincount(data.position, data.label)[1:] / np.bincount(data.position)[1:]
    return rate / rate[0]


def bad_logs() -> dict[str, tuple[ImportanceData, str]]:
    """Logs that nothing can be told from, and the beginning of what is said of them."""
    data, _ = make_clicks(100)
    rows = len(data)
    few = data.label * (np.cumsum(data.label) <= 7)
    nobody = np.zeros(rows, np.float32)
    return {
        "no clicks": (replace(data, label=0 * data.label), "^0 clicks at known positions"),
        "few clicks": (replace(data, label=few), "^7 clicks at known positions: expected at le"),
        "all clicked": (replace(data, label=0 * data.label + 1), f"^all {rows} rows are clicked"),
        "no position": (replace(data, position=0 * data.position), f"^0 of {rows} rows have a po"),
        "one position": (replace(data, position=0 * data.position + 4), "^position=4 in all"),
        "no features": (replace(data, features=data.features[:, :0]), "^features has 0 columns"),
        "all bots": (replace(data, human=nobody), f"^0 of {rows} rows have a position from 1"),
        "no rows": (data.take(np.arange(0)), "^0 of 0 rows have a position"),
    }
