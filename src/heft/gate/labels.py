"""Clicks and conversions of a span, and whether they are those of the last spans."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from heft import features as f
from heft.examples import Feature, iterate_columns
from heft.gate.anomaly import ALL, Anomaly
from heft.gate.rates import (
    chance_of_excess,
    chance_of_rates,
    chance_of_shares,
    divergence,
    spread,
)
from heft.gate.settings import LabelBounds
from heft.logs.hashing import hash_ids

__all__ = ["LabelCounts", "check_labels", "count_labels", "with_orphans"]

POSITIONS = 50  # counted one by one; further ones together
_GROUPS = 256
_READ = (
    Feature(f.CLICK, int, 0),
    Feature(f.CONVERSION, int, 0),
    Feature(f.POSITION, int, 0),
    Feature(f.SAMPLING, float, 1.0),
    Feature(f.USER_ID, bytes, b""),
    Feature(f.REQUEST_ID, bytes, b""),
    Feature(f.TIMESTAMP, int, 0),
)

Array = np.ndarray


@dataclass(frozen=True)
class LabelCounts:
    """Labels of a span. Rows that were sampled count as many as they stand for.

    Attributes:
        rows, clicks, conversions: of all splits but `graded`.
        positions, clicks_at: impressions and clicks at positions 1, 2, …, `POSITIONS` and, in
            the last place, beyond.
        click_spread, conversion_spread: design effects of CTR and CVR, as people come with
            several rows each.
        clicks_read, orphan_clicks: events of the clicks stream, and those without an impression.
    """

    rows: float = 0.0
    clicks: float = 0.0
    conversions: float = 0.0
    positions: tuple[float, ...] = (0.0,) * (POSITIONS + 1)
    clicks_at: tuple[float, ...] = (0.0,) * (POSITIONS + 1)
    click_spread: float = 1.0
    conversion_spread: float = 1.0
    clicks_read: int = 0
    orphan_clicks: int = 0

    @property
    def ctr(self) -> float | None:
        """Clicks per impression; None without impressions."""
        return self.clicks / self.rows if self.rows else None

    @property
    def cvr(self) -> float | None:
        """Conversions per click; None without clicks."""
        return self.conversions / self.clicks if self.clicks else None

    @property
    def orphan_share(self) -> float | None:
        """Of the events of the clicks stream; None without."""
        return self.orphan_clicks / self.clicks_read if self.clicks_read else None

    def to_json(self) -> dict[str, Any]:
        """For `gate.json`, with the rates."""
        rates = {name: getattr(self, name) for name in ("ctr", "cvr", "orphan_share")}
        return asdict(self) | rates

    @classmethod
    def of_json(cls, facts: Mapping[str, Any]) -> "LabelCounts":
        """Reads what `to_json` gave."""
        own = {field.name: facts[field.name] for field in fields(cls)}
        return cls(**own | {name: tuple(own[name]) for name in ("positions", "clicks_at")})

    @classmethod
    def pooled(cls, several: Sequence["LabelCounts"]) -> "LabelCounts":
        """All of them as one; of the design effects the mean."""
        if not several:
            return cls()
        summed: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(one, field.name) for one in several]
            if isinstance(values[0], tuple):
                summed[field.name] = tuple(np.sum(values, axis=0).tolist())
            else:
                summed[field.name] = sum(values)
        for name in ("click_spread", "conversion_spread"):
            summed[name] /= len(several)
        return cls(**summed)


def count_labels(shards: Sequence[str], after: float = -np.inf) -> LabelCounts:
    """Counts the labels of shards of logged impressions, in memory that does not grow with them.

    Clusters are users, or requests where no user is logged; groups of them go by a hash.

    Args:
        shards: of all splits.
        after: milliseconds since the epoch; impressions up to then are left out.
    """
    total = np.zeros((3, _GROUPS))  # rows, clicks, conversions
    places = np.zeros((2, POSITIONS + 2))
    for batch in iterate_columns(shards, _READ):
        newer = batch[f.TIMESTAMP] > after
        columns = {name: values[newer] for name, values in batch.items()}
        weight = 1 / np.clip(columns[f.SAMPLING].astype(float), 1e-9, None)
        clicks, conversions = columns[f.CLICK] * weight, columns[f.CONVERSION] * weight
        group = _groups(columns)
        place = np.clip(columns[f.POSITION], 0, POSITIONS + 1)
        for k, values in enumerate((weight, clicks, conversions)):
            total[k] += np.bincount(group, values, _GROUPS)
        for k, values in enumerate((weight, clicks)):
            places[k] += np.bincount(place, values, POSITIONS + 2)
    rows, clicks, conversions = total
    return LabelCounts(
        rows=float(rows.sum()),
        clicks=float(clicks.sum()),
        conversions=float(conversions.sum()),
        positions=tuple(places[0, 1:].tolist()),
        clicks_at=tuple(places[1, 1:].tolist()),
        click_spread=spread(clicks, rows),
        conversion_spread=spread(conversions, clicks),
    )


def _groups(columns: Mapping[str, Array]) -> Array:
    users, requests = (columns[name] for name in (f.USER_ID, f.REQUEST_ID))
    keys = np.where(users == b"", requests, users)
    # Hashes are of bytes, whatever they spell.
    hashed = hash_ids(pa.array(keys, pa.binary()).view(pa.string()))
    groups: Array = (hashed % np.uint64(_GROUPS)).astype(np.int64)
    return groups


def with_orphans(counts: LabelCounts, clicks: Mapping[str, Any] | None) -> LabelCounts:
    """With what ingest says of the clicks stream, if the log has one.

    Args:
        counts: of the impressions.
        clicks: of `streams` in the Quarantine artifact's `summary.json`.
    """
    if clicks is None:
        return counts
    orphans = int(clicks["unattributed"].get("orphan", 0))
    return replace(counts, clicks_read=int(clicks["read"]), orphan_clicks=orphans)


def check_labels(
    now: LabelCounts, before: LabelCounts | None, bounds: LabelBounds
) -> list[Anomaly]:
    """What is unlike the last spans, or outside of what there may ever be.

    Args:
        now: the span.
        before: the last spans that passed, pooled; None if there are none.
        bounds: see there.
    """
    found = [*_absolute(now, bounds), *_orphans(now, before, bounds)]
    if before is not None:
        found += [*_rates(now, before, bounds), *_positions(now, before, bounds)]
    return found


def _absolute(now: LabelCounts, bounds: LabelBounds) -> Iterator[Anomaly]:
    for name, rate, wanted, rows in (
        ("CTR", now.ctr, bounds.ctr, now.rows),
        ("CVR", now.cvr, bounds.cvr, now.clicks),
    ):
        if wanted is not None and rate is not None and not wanted[0] <= rate <= wanted[1]:
            expected = f"{wanted[0]:g} to {wanted[1]:g} at any time"
            yield Anomaly(ALL, name, "rate", expected, f"{rate:.4g}", round(rows))


def _rates(now: LabelCounts, before: LabelCounts, bounds: LabelBounds) -> Iterator[Anomaly]:
    """Rates whose ratio to the last ones is outside, and not by chance."""
    low, high = bounds.ratio
    sides = (
        ("CTR", "clicks", "impressions", "clicks", "rows", "click_spread"),
        ("CVR", "conversions", "clicks", "conversions", "clicks", "conversion_spread"),
    )
    for name, what, per, events, exposure, effect in sides:
        count, size, other, other_size = (
            float(getattr(x, n)) for x in (now, before) for n in (events, exposure)
        )
        design = max(getattr(now, effect), getattr(before, effect))
        chance = chance_of_rates(count, size, other, other_size, design)
        if not size or not other_size or chance >= bounds.chance:
            continue
        rate, usual = count / size, other / other_size
        if not low * usual <= rate <= high * usual:
            expected = f"{low * usual:.4g} to {high * usual:.4g}, as it was {usual:.4g} before"
            came = f"{rate:.4g}: {count:,.0f} {what} on {size:,.0f} {per}"
            yield Anomaly(ALL, name, "rate", expected, came, round(size))


def _positions(now: LabelCounts, before: LabelCounts, bounds: LabelBounds) -> Iterator[Anomaly]:
    for name, field, design in (
        ("position", "positions", 1.0),
        ("position of clicks", "clicks_at", max(now.click_spread, before.click_spread)),
    ):
        here, there = getattr(now, field), getattr(before, field)
        apart = divergence(here, there)
        if apart > bounds.positions and chance_of_shares(here, there, design) < bounds.chance:
            shares = [np.divide(x, sum(x)) for x in (here, there)]
            moved = int(np.argmax(np.abs(shares[0] - shares[1])))
            where = f"{moved + 1}" if moved < POSITIONS else f"beyond {POSITIONS}"
            came = (
                f"{apart:.3f}; most at {where}: {shares[1][moved]:.1%} before, "
                f"{shares[0][moved]:.1%} now"
            )
            expected = f"Jensen–Shannon divergence to the last spans at most {bounds.positions:g}"
            yield Anomaly(ALL, name, "distribution", expected, came, round(sum(here)))


def _orphans(
    now: LabelCounts, before: LabelCounts | None, bounds: LabelBounds
) -> Iterator[Anomaly]:
    share, most = now.orphan_share, bounds.orphan_share
    if share is None:
        return
    came = f"{share:.1%}: {now.orphan_clicks:,} of {now.clicks_read:,}"
    usual = before.orphan_share if before else None
    if share > most and chance_of_excess(now.orphan_clicks, now.clicks_read, most) < bounds.chance:
        expected = f"at most {most:.1%} of clicks without an impression"
    elif (
        before is not None
        and usual is not None
        and share > usual + bounds.orphan_rise
        and chance_of_rates(
            now.orphan_clicks, now.clicks_read, before.orphan_clicks, before.clicks_read
        ) < bounds.chance
    ):  # fmt: skip
        expected = (
            f"at most {usual + bounds.orphan_rise:.1%} of clicks without an impression, "
            f"as it was {usual:.1%} before"
        )
    else:
        return
    yield Anomaly(ALL, "clicks", "orphans", expected, came, now.orphan_clicks)
