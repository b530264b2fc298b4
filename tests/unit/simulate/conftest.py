"""Simulated logs shared by the tests of a session, and ways to read them back."""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from heft.simulate import SimulationSettings, simulate

_ROOT = Path(__file__).resolve().parents[3]


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


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """No bots, no trust bias, every page shuffled: examination and relevance alone."""
    return run(
        tmp_path_factory.mktemp("plain") / "log",
        sessions=20_000, seed=1, bots=0.0, trust_bias="none", shuffled=1.0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """The defaults, with more bots and more shuffled pages, in three spans."""
    return run(
        tmp_path_factory.mktemp("usual") / "log",
        sessions=20_000, seed=2, bots=0.1, shuffled=0.1, spans=3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real judgements; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("HEFT_DATA", _ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"NOT TESTED: no data at {folder}; set HEFT_DATA to the folder that holds it")
    return folder
