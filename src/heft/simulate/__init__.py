"""Simulated shops: logs over real or constructed relevance, with the truth kept."""

from heft.simulate.settings import SimulationSettings
from heft.simulate.simulation import simulate

__all__ = ["SimulationSettings", "simulate"]
