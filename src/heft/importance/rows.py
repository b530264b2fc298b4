"""Transformed columns as the samples of a task."""

import numpy as np

from heft import features as f
from heft.errors import ConfigError
from heft.importance.base import ImportanceData
from heft.importance.settings import ImportanceSettings

__all__ = ["importance_data"]

Array = np.ndarray
Columns = dict[str, Array]

_DAY = 86_400_000


def importance_data(
    columns: Columns,
    features: Array,
    task: str,
    settings: ImportanceSettings | None = None,
    latest: int = 0,
) -> ImportanceData:
    """The samples of `task`; what the log does not have is None.

    Args:
        columns: transformed columns, each (n,).
        features: (n, d), of `proxy_features`; its first column is the cosine.
        task: whose label.
        settings: which columns slices, groups, sampling and the target domain are
            read from; none of them without.
        latest: timestamp of the newest row, from which `target_days` count back.

    Raises:
        ConfigError: a slice or protected column that Transform does not write.
    """
    settings = settings or ImportanceSettings()
    missing = np.full(len(features), np.nan, np.float32)
    propensity = columns.get(f.PROPENSITY, missing).astype(np.float32)
    pair = columns[f.QUERY_ID].astype(np.int64) * 2**32 + columns[f.TITLE_ID].astype(np.int64)
    randomised = columns.get(f.RANDOMISED)
    return ImportanceData(
        features=features,
        label=columns[f.label_of(task)],
        group=columns[f.REQUEST_KEY],
        position=columns[f.POSITION],
        propensity=np.where(propensity == 0, np.nan, propensity),
        pair=pair,
        user=columns.get(f.USER_KEY),
        timestamp=columns.get(f.TIMESTAMP),
        click_delay=_seconds(columns, f.CLICK_DELAY),
        delay=_seconds(columns, f.CONVERSION_DELAY),
        elapsed=columns.get(f.OBSERVATION),
        sampling=_sampling(columns, settings),
        slice=_category(columns, settings.slice_column, "slice_column"),
        protected=_category(columns, settings.protected_column, "protected_column"),
        domain=_domain(columns, settings, latest),
        relevance=features[:, 0] if features.shape[1] else None,
        spoken=columns.get(f.SPOKEN),
        randomised=None if randomised is None else randomised != 0,
    )


def _seconds(columns: Columns, name: str) -> Array | None:
    """Seconds; NaN where the log says −1, for none."""
    if name not in columns:
        return None
    return np.where(columns[name] < 0, np.nan, columns[name]).astype(np.float32)


def _sampling(columns: Columns, settings: ImportanceSettings) -> Array | None:
    """As ingest wrote it beside the row; else the config's rate. Clicked rows are never
    sampled down: they are positives of one task at least."""
    if f.SAMPLING in columns:
        return columns[f.SAMPLING].astype(np.float32)
    if settings.sampling_rate == 1:
        return (
            None
            if "negative_sampling" not in settings.corrections
            else np.ones(len(columns[f.CLICK]), np.float32)
        )
    return np.where(columns[f.CLICK] == 1, 1.0, settings.sampling_rate).astype(np.float32)


def _category(columns: Columns, name: str | None, key: str) -> Array | None:
    if name is None:
        return None
    if f.categorical_id(name) not in columns:
        raise ConfigError(
            f"{key}={name!r} is not among the transformed columns: expected one of "
            "transform.categorical"
        )
    return columns[f.categorical_id(name)]


def _domain(columns: Columns, settings: ImportanceSettings, latest: int) -> Array | None:
    if settings.target_days is None or f.TIMESTAMP not in columns:
        return None
    return (columns[f.TIMESTAMP] > latest - settings.target_days * _DAY).astype(np.int64)
