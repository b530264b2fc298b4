"""A simulation, read back from the files it wrote."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from heft.simulate import SimulationSettings, simulate


@dataclass(frozen=True)
class Log:
    """A simulation read back from its files."""

    settings: SimulationSettings
    counts: dict[str, int]
    folder: Path
    impressions: pd.DataFrame
    clicks: pd.DataFrame
    conversions: pd.DataFrame
    truth: pd.DataFrame
    queries: pd.DataFrame

    def joined(self) -> pd.DataFrame:
        """Impressions with their truth and what was logged of them."""
        rows = self.impressions.merge(self.truth, on="impression_id", validate="1:1")
        return rows.assign(click=rows["impression_id"].isin(self.clicks["impression_id"]))


def stream_rows(folder: Path, name: str) -> pd.DataFrame:
    """All spans of one Parquet stream."""
    files = sorted(folder.glob(f"{name}/span-*/*.parquet"))
    return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)


def run(out: Path, **settings: object) -> Log:
    """Simulates into `out` and reads the files back."""
    chosen = SimulationSettings.model_validate(settings)
    counts = simulate(chosen, out)
    streams = (stream_rows(out, name) for name in ("impressions", "clicks", "conversions"))
    truth = pd.read_parquet(out / "truth" / "impressions.parquet")
    queries = pd.read_parquet(out / "truth" / "queries.parquet")
    return Log(chosen, counts, out, *streams, truth, queries)
