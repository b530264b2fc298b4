"""Offline ranking: what a pushed model says of files full of candidates."""

from heft.scoring.report import ScoreReport
from heft.scoring.run import score
from heft.scoring.settings import ScoreSettings

__all__ = ["ScoreReport", "ScoreSettings", "score"]
