"""The simulator: renders scenes of an invented country, or of a real label map, for builds without a network."""

from builders.simulate.config import SimulationConfig
from builders.simulate.run import simulate

__all__ = ["SimulationConfig", "simulate"]
