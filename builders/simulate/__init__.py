"""The simulator: source scenes of a country that does not exist, or of a real map, for builds without a network."""

from builders.simulate.config import SimulationConfig
from builders.simulate.run import simulate

__all__ = ["SimulationConfig", "simulate"]
